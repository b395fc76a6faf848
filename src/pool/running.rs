//! A running worker: its process, and the link to it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Wake;

use crate::ipc::reactor::WakerSlot;
use crate::ipc::ring::Corrupt;
use crate::ipc::wire::Envelope;
use crate::pool::link::ParentEnd;
use crate::pool::state::WorkerControl;
use crate::process::{Backend, Process};

/// A running worker. Cheap to clone.
#[derive(Clone)]
pub(super) struct RunningWorker(Arc<LinkedProcess>);

struct LinkedProcess {
    link: Arc<ParentEnd>,
    process: Process<()>,
    /// Its waker notifies the link when the process has ended.
    _exit_slot: WakerSlot,
}

struct ExitWaker(Arc<ParentEnd>);

impl Wake for ExitWaker {
    fn wake(self: Arc<Self>) {
        self.0.set_ended();
    }
}

impl RunningWorker {
    pub(super) fn new(link: ParentEnd, process: Process<()>) -> io::Result<RunningWorker> {
        let link = Arc::new(link);
        let exit_slot = process.source().register()?;
        exit_slot.set(&Arc::new(ExitWaker(link.clone())).into());
        // Checked after the waker is set: an end before that woke nothing.
        if !process.is_alive() {
            link.set_ended();
        }
        Ok(RunningWorker(Arc::new(LinkedProcess { link, process, _exit_slot: exit_slot })))
    }

    pub(super) fn link(&self) -> &ParentEnd {
        &self.0.link
    }

    pub(super) fn process(&self) -> &Process<()> {
        &self.0.process
    }

    /// Ends a worker, and blocks until it has ended. A worker on a thread must be idle.
    pub(super) fn end(&self) {
        if self.can_be_killed() {
            self.kill();
        } else {
            self.quit();
            self.ring();
        }
        let _ = self.process().join();
    }
}

impl WorkerControl for RunningWorker {
    fn pid(&self) -> u32 {
        self.process().pid()
    }

    fn push<'a>(&self, number: u32, values: impl Iterator<Item = &'a [u8]>) -> (u64, u64) {
        self.link().push(number, values)
    }

    fn push_parcel(
        &self,
        number: u32,
        envelope: Envelope,
        origin: &[u8],
    ) -> io::Result<Option<u64>> {
        self.link().push_parcel(number, envelope, origin)
    }

    fn recall(&self, positions: impl Iterator<Item = u64>) -> Result<u64, Corrupt> {
        self.link().recall(positions)
    }

    fn is_begun(&self, position: u64) -> bool {
        self.link().is_begun(position)
    }

    fn quit(&self) {
        self.link().quit();
    }

    fn can_be_killed(&self) -> bool {
        self.process().backend() == Backend::Process
    }

    fn kill(&self) {
        self.process().kill_with_programs();
    }

    fn ring(&self) {
        self.link().ring();
    }

    fn interrupt(&self) {
        self.link().interrupt();
    }
}

impl fmt::Debug for RunningWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunningWorker").field(&self.process().name()).finish()
    }
}
