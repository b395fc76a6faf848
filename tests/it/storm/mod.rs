//! Storms: processes are killed, and suspended for 1 to 500 ms, at random instants while they work,
//! and their histories are checked afterwards. Each process appends what it does to its own file,
//! with one `write` for each record. No record crosses a page, so a kill cannot tear it.
//!
//! `OFFSPRING_STORM_KILLS` is the number of kills of each storm (default 40), and
//! `OFFSPRING_STORM_SEED` repeats a storm. The storms of locks, supervisors and selectors are
//! beside their other tests.

mod actor;
mod channel;
mod pool;
pub(crate) mod queue;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Whatever takes longer hangs.
const LONG: Duration = Duration::from_secs(60);

/// The bytes of a record.
const RECORD: usize = 16;

/// What one process did.
struct History(File);

impl History {
    fn open(path: &Path) -> History {
        History(
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .expect("the history's directory is there"),
        )
    }

    fn note(&mut self, what: u8, id: u64) {
        let mut record = [what; RECORD];
        record[8..].copy_from_slice(&id.to_le_bytes());
        self.0.write_all(&record).expect("there is room for the history");
    }
}

fn read(path: &Path) -> Vec<(u8, u64)> {
    let bytes = fs::read(path).expect("each process opened its history");
    assert_eq!(bytes.len() % RECORD, 0, "a record was torn");
    bytes
        .chunks(RECORD)
        .map(|record| (record[0], u64::from_le_bytes(record[8..].try_into().unwrap())))
        .collect()
}
