//! Processes in the order of their end.

use std::collections::HashMap;
use std::fmt;

use serde::de::DeserializeOwned;

use super::Selector;
use crate::error::JoinError;
use crate::process::Process;

/// Joins processes in the order in which they end: an iterator over each with its result.
///
/// ```
/// use std::time::Duration;
///
/// #[offspring::worker]
/// fn nap(millis: u64) -> u64 {
///     std::thread::sleep(Duration::from_millis(millis));
///     millis
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let processes = [nap::spawn(400)?, nap::spawn(1)?];
///     let mut naps = offspring::as_completed(processes).map(|(_, nap)| nap);
///     assert_eq!(naps.next().unwrap()?, 1);
///     assert_eq!(naps.next().unwrap()?, 400);
///     assert!(naps.next().is_none());
///     Ok(())
/// }
/// ```
pub fn as_completed<T>(processes: impl IntoIterator<Item = Process<T>>) -> AsCompleted<T> {
    let selector = Selector::new();
    let processes = processes.into_iter().map(|process| {
        let key = selector
            .add(&process)
            .expect("a process has no channel to be watched");
        (key, process)
    });
    let processes = processes.collect();
    AsCompleted {
        selector,
        processes,
    }
}

/// Processes in the order of their end, from [`as_completed`]. Dropping it drops those that have not ended yet, which
/// run on.
///
/// ```
/// #[offspring::worker]
/// fn double(n: u64) -> u64 {
///     n * 2
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let processes = [double::spawn(1)?, double::spawn(2)?];
///     let completed = offspring::as_completed(processes);
///     assert_eq!(completed.len(), 2); // so many have not ended yet, or nobody asked
///     for (process, output) in completed {
///         println!("{} gave {}", process.name(), output?);
///     }
///     Ok(())
/// }
/// ```
#[must_use = "an iterator joins nothing until it is asked"]
pub struct AsCompleted<T> {
    selector: Selector,
    processes: HashMap<usize, Process<T>>,
}

impl<T: DeserializeOwned> Iterator for AsCompleted<T> {
    type Item = (Process<T>, Result<T, JoinError>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.selector.ready()?;
        self.selector.remove(key);
        let process = self.processes.remove(&key)?;
        let output = process.join();
        Some((process, output))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.processes.len(), Some(self.processes.len()))
    }
}

impl<T: DeserializeOwned> ExactSizeIterator for AsCompleted<T> {}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("processes", &self.processes.len())
            .finish()
    }
}
