//! A plain worker under a supervisor.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::actor::StartOptions;
use crate::channel::Receiver;
use crate::error::{CreateError, DownReason, JoinError, RecvTimeoutError, StartError};
use crate::ipc::wire::Retry;
use crate::process::{Process, ProcessWorker};
use crate::supervisor::child::{Child, OnChildEnd};
use crate::supervisor::heartbeat::{Beat, Heartbeat};
use crate::supervisor::start_info::StartInfo;
use crate::supervisor::strategy::{Restart, Shutdown};
use crate::sys::{self, lock};

/// A worker that `make` builds anew for each start.
pub(super) struct WorkerChild<F, T> {
    make: F,
    name: String,
    options: StartOptions,
    starts: u64,
    previous: Arc<Mutex<Option<DownReason>>>,
    running: Option<Arc<WorkerProcess<T>>>,
}

struct WorkerProcess<T> {
    process: Process<T>,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl<F, T> WorkerChild<F, T> {
    pub(super) fn new(make: F, name: String, options: StartOptions) -> WorkerChild<F, T> {
        WorkerChild { make, name, options, starts: 0, previous: Arc::default(), running: None }
    }
}

impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> WorkerProcess<T> {
    /// Waits for the end of the process; kills it when its heartbeat stops.
    fn wait(&self, heartbeat: Option<(Receiver<Beat>, Duration)>) -> DownReason {
        if let Some((beats, limit)) = heartbeat {
            let mut retry = Retry::default();
            loop {
                match beats.recv_timeout(limit) {
                    Ok(Beat) => {}
                    // This process lacks a resource for a moment. That is not the worker's fault.
                    Err(RecvTimeoutError::Io(error)) => retry.pause(&error),
                    Err(RecvTimeoutError::Timeout) => {
                        self.process.kill_with_programs();
                        let _ = self.process.join();
                        return DownReason::Hung { limit };
                    }
                    // The worker dropped its heartbeat, or died.
                    Err(_) => break,
                }
            }
        }
        match self.process.join() {
            Err(JoinError::Ended { reason, .. }) => DownReason::Died(reason),
            // The worker returned. Its output is not used, so it does not matter whether it can be
            // decoded.
            Ok(_) | Err(_) => DownReason::Normal,
        }
    }
}

impl<F, W> Child for WorkerChild<F, W::Output>
where
    F: Fn(&StartInfo) -> W + Send,
    W: ProcessWorker,
{
    fn start(&mut self, _: Restart, on_end: OnChildEnd) -> Result<(), StartError> {
        let actor = || self.name.clone();
        let (heartbeat, beats) = Heartbeat::pair(self.options.heartbeat)
            .map_err(|cause| StartError::Create { actor: actor(), cause })?;
        let info = StartInfo::new(self.starts, lock(&self.previous).clone(), heartbeat);
        let worker = (self.make)(&info);
        // The process must hold the only sender of the heartbeat, so that the channel closes when
        // it ends.
        drop(info);
        let builder = self.options.process(&self.name, self.starts);
        self.starts += 1;
        let process =
            builder.spawn(worker).map_err(|cause| StartError::Spawn { actor: actor(), cause })?;
        let running =
            Arc::new(WorkerProcess { process, ended: Mutex::new(false), changed: Condvar::new() });
        let (watched, previous) = (running.clone(), self.previous.clone());
        let heartbeat = beats.zip(self.options.heartbeat);
        let thread = sys::service_thread("offspring-host", move || {
            let reason = watched.wait(heartbeat);
            *lock(&previous) = Some(reason.clone());
            *lock(&watched.ended) = true;
            watched.changed.notify_all();
            on_end(reason);
        });
        if let Err(cause) = thread {
            running.process.kill();
            let act = "start a thread";
            let cause = CreateError::Io { act, cause };
            return Err(StartError::Create { actor: actor(), cause });
        }
        self.running = Some(running);
        Ok(())
    }

    fn stop(&mut self, shutdown: Shutdown) {
        let Some(running) = self.running.take() else {
            return;
        };
        match shutdown {
            Shutdown::Kill => running.process.kill(),
            // A request at first, SIGTERM after half of the grace, SIGKILL at its end.
            Shutdown::Timeout(grace) => running.process.request_stop(grace / 2),
            Shutdown::Infinity => running.process.request_stop(Duration::MAX),
        }
        let mut ended = lock(&running.ended);
        while !*ended {
            ended = sys::wait(&running.changed, ended, None);
        }
    }

    /// Does nothing: plain workers have no clients.
    fn announce_restart(&mut self, _: &DownReason) {}

    fn announce_down(&mut self, _: &DownReason) {}

    fn pid(&self) -> Option<u32> {
        let running = self.running.as_ref()?;
        (!*lock(&running.ended)).then(|| running.process.pid())
    }
}
