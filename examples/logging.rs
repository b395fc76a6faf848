//! Children log with the `log` crate, and the records go to the logger of the main program, here an
//! unmodified env_logger.
//!
//! `RUST_LOG=debug cargo run --example logging` shows more: the program's filter also applies to
//! its children.

use log::{debug, info, warn};
use offspring::{ProcessBuilder, ProcessWorker, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Worker)]
struct Baker {
    loaves: u32,
}

impl ProcessWorker for Baker {
    type Output = u32;

    fn run(self) -> u32 {
        for loaf in 1..=self.loaves {
            debug!("kneading loaf {loaf}");
            info!(loaf; "in the oven");
        }
        if self.loaves > 2 {
            warn!("out of flour");
        }
        self.loaves
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let bakers = [("anna", 2), ("ben", 3)];
    let bakers =
        bakers.map(|(name, loaves)| ProcessBuilder::new().name(name).spawn(Baker { loaves }));
    for baker in bakers {
        let baker = baker?;
        let loaves = baker.join()?;
        // Comes after all records of the child: `join` waits for them.
        info!("{} has baked {loaves}", baker.name());
    }
    Ok(())
}
