//! Processes in the order in which they end.

use std::collections::HashMap;
use std::fmt;
use std::iter::FusedIterator;

use serde::de::DeserializeOwned;

use super::Selector;
use crate::error::JoinError;
use crate::process::Process;

/// Returns an iterator that joins processes in the order in which they end, and yields each with
/// its result.
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
        let key = selector.add(&process).expect("watching a process takes no descriptor");
        (key, process)
    });
    let processes = processes.collect();
    AsCompleted { selector, processes }
}

/// An iterator over processes in the order in which they end, from [`as_completed`]. Dropping it
/// drops the handles of the remaining processes, which keep running.
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
///     assert_eq!(completed.len(), 2); // not joined yet
///     for (process, output) in completed {
///         println!("{} returned {}", process.name(), output?);
///     }
///     Ok(())
/// }
/// ```
#[must_use = "iterators are lazy"]
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

impl<T: DeserializeOwned> FusedIterator for AsCompleted<T> {}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("processes", &self.processes.len()).finish()
    }
}
