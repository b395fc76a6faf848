//! The operations that the state performs on a running worker: the border between decisions and
//! processes.

use std::io;

use crate::ipc::ring::Corrupt;
use crate::ipc::wire::Envelope;

/// A handle to a running worker. The state calls everything except `ring` and `interrupt` under the
/// pool's lock, and none of those calls blocks.
pub(in crate::pool) trait WorkerControl: Clone {
    fn pid(&self) -> u32;

    /// Writes tasks into the ring while there is room. Returns the position of the first one, and
    /// how many were written.
    fn push<'a>(&self, number: u32, values: impl Iterator<Item = &'a [u8]>) -> (u64, u64);

    /// Sends one task to an idle worker. Returns its position, or `Ok(None)` if the worker is gone.
    fn push_parcel(
        &self,
        number: u32,
        envelope: Envelope,
        origin: &[u8],
    ) -> io::Result<Option<u64>>;

    /// Takes back all tasks that have not begun. Returns how many of `positions` have begun.
    fn recall(&self, positions: impl Iterator<Item = u64>) -> Result<u64, Corrupt>;

    fn is_begun(&self, position: u64) -> bool;

    /// Makes an idle worker end.
    fn quit(&self);

    /// Returns whether [`kill`](WorkerControl::kill) ends it. A thread cannot be killed.
    fn can_be_killed(&self) -> bool;

    fn kill(&self);

    /// Wakes the worker, which may sleep.
    fn ring(&self);

    /// Wakes the worker's monitor.
    fn interrupt(&self);
}
