//! The kinds of children, as their supervisor handles them.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::actor::{self, Actor, ActorRef, Entry, Plan, Post, Status};
use crate::error::{CreateError, DownReason, JoinError, RecvTimeoutError, StartError};
use crate::process::{Process, ProcessWorker};
use crate::supervisor::heartbeat::{Beat, Heartbeat};
use crate::supervisor::start_info::StartInfo;
use crate::supervisor::strategy::{Restart, Shutdown};
use crate::sys::{self, lock};

/// A supervisor that starts or stops another child says nothing of this one. For so long clients of an incarnation that died wait for its word.
const WORD: Duration = Duration::from_millis(20);

/// Called when what was started has ended, once for each start that succeeded.
pub(super) type OnEnd = Box<dyn FnOnce(DownReason) + Send>;

pub(super) trait Child: Send {
    /// Starts it, and waits until it is up. By `restart` it is known, before the supervisor says so, whether it will be started again.
    fn start(&mut self, restart: Restart, on_end: OnEnd) -> Result<(), StartError>;

    /// Stops it, and waits for its end. What is down already stays so.
    fn stop(&mut self, shutdown: Shutdown);

    /// It will be started again: those who wait for it may know.
    fn will_restart(&mut self, reason: &DownReason);

    /// It will not be started again, unless somebody asks for that.
    fn is_down(&mut self, reason: &DownReason);

    fn pid(&self) -> Option<u32>;

    /// Its address, if it is an actor.
    fn entry(&self) -> Option<Entry> {
        None
    }

    /// Its children, if it is a supervisor.
    fn nested(&self) -> Option<Arc<super::view::View>> {
        None
    }
}

pub(super) struct ActorChild<A: Actor> {
    pub(super) builder: actor::ActorBuilder,
    pub(super) args: A::Args,
    /// Made by the first start. An actor that is down for good gets a new one if it is started all the same.
    pub(super) post: Option<(Arc<Post>, ActorRef<A>)>,
}

impl<A: Actor> ActorChild<A> {
    fn plan(&self) -> &Plan {
        self.builder.plan()
    }
}

impl<A: Actor> Child for ActorChild<A>
where
    A::Args: Clone + Send,
{
    fn start(&mut self, restart: Restart, on_end: OnEnd) -> Result<(), StartError> {
        if self.post.is_none() {
            self.post = Some(self.builder.open::<A>()?);
        }
        let (post, address) = self.post.as_ref().expect("made above");
        let end = move |post: &Arc<Post>, generation, reason: DownReason| {
            let again = restart.applies(&reason).then(|| reason.clone());
            on_end(reason);
            if let Some(reason) = again {
                post.restarts_unless_told(generation, reason, WORD);
            }
        };
        actor::launch(post, address, self.args.clone(), self.plan(), Box::new(end))
    }

    fn stop(&mut self, shutdown: Shutdown) {
        let Some((post, _)) = &self.post else { return };
        let deadline = match shutdown {
            Shutdown::Kill => Some(Instant::now()),
            Shutdown::Timeout(grace) => Instant::now().checked_add(grace),
            Shutdown::Infinity => None,
        };
        if shutdown != Shutdown::Kill {
            // Not after its mail: what it has not handled is there for its next incarnation.
            post.ask_to_stop(false, deadline);
        }
        if !post.wait_end(deadline) {
            post.kill();
            post.wait_end(None);
        }
    }

    fn will_restart(&mut self, reason: &DownReason) {
        if let Some((post, _)) = &self.post {
            let (generation, reason) = (post.generation(), reason.clone());
            post.publish(Status::Restarting { generation, reason });
        }
    }

    fn is_down(&mut self, reason: &DownReason) {
        if let Some((post, _)) = self.post.take() {
            self.builder.close(&post, reason.clone());
        }
    }

    fn pid(&self) -> Option<u32> {
        self.post.as_ref().and_then(|(post, _)| post.pid())
    }

    fn entry(&self) -> Option<Entry> {
        self.post
            .as_ref()
            .and_then(|(_, address)| address.entry().ok())
    }
}

impl<A: Actor> Drop for ActorChild<A> {
    /// Nothing runs unsupervised, whatever ended the supervisor.
    fn drop(&mut self) {
        if let Some((post, _)) = &self.post {
            post.kill();
        }
    }
}

/// A plain worker: made anew for each start.
pub(super) struct WorkerChild<F, T> {
    pub(super) make: F,
    pub(super) name: String,
    pub(super) heartbeat: Option<Duration>,
    pub(super) starts: u64,
    pub(super) previous: Arc<Mutex<Option<DownReason>>>,
    pub(super) running: Option<Arc<WorkerProcess<T>>>,
}

pub(super) struct WorkerProcess<T> {
    process: Process<T>,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> WorkerProcess<T> {
    /// Waits for its end, and for its heart to stop.
    fn wait(&self, heart: Option<(crate::channel::Receiver<Beat>, Duration)>) -> DownReason {
        if let Some((beats, limit)) = heart {
            loop {
                match beats.recv_timeout(limit) {
                    Ok(Beat) => {}
                    Err(RecvTimeoutError::Timeout) => {
                        self.process.kill();
                        let _ = self.process.join();
                        return DownReason::Hung { limit };
                    }
                    // It has dropped its heart, or died.
                    Err(RecvTimeoutError::Failed(_)) => break,
                }
            }
        }
        match self.process.join() {
            Err(JoinError::Ended { reason, .. }) => DownReason::Died(reason),
            // It returned; what it returned is nobody's here.
            Ok(_) | Err(_) => DownReason::Normal,
        }
    }
}

impl<F, W> Child for WorkerChild<F, W::Output>
where
    F: Fn(&StartInfo) -> W + Send,
    W: ProcessWorker,
{
    fn start(&mut self, _: Restart, on_end: OnEnd) -> Result<(), StartError> {
        let actor = || self.name.clone();
        let (heart, beats) =
            Heartbeat::pair(self.heartbeat).map_err(|source| StartError::Create {
                actor: actor(),
                source,
            })?;
        let info = StartInfo::new(self.starts, lock(&self.previous).clone(), heart);
        let worker = (self.make)(&info);
        drop(info);
        let builder = Plan::default().process(&self.name, self.starts);
        self.starts += 1;
        let process = builder.spawn(worker).map_err(|source| StartError::Spawn {
            actor: actor(),
            source,
        })?;
        let running = Arc::new(WorkerProcess {
            process,
            ended: Mutex::new(false),
            changed: Condvar::new(),
        });
        let (watched, previous) = (running.clone(), self.previous.clone());
        let heart = beats.zip(self.heartbeat);
        let thread = sys::service_thread("offspring-keeper", move || {
            let reason = watched.wait(heart);
            *lock(&previous) = Some(reason.clone());
            *lock(&watched.ended) = true;
            watched.changed.notify_all();
            on_end(reason);
        });
        if let Err(source) = thread {
            running.process.kill();
            let act = "start a thread";
            let source = CreateError::Io { act, source };
            return Err(StartError::Create {
                actor: actor(),
                source,
            });
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
            // Asked first, SIGTERM in the middle, SIGKILL at the end.
            Shutdown::Timeout(grace) => running.process.request_stop(grace / 2),
            Shutdown::Infinity => running.process.request_stop(Duration::MAX),
        }
        let mut ended = lock(&running.ended);
        while !*ended {
            ended = sys::wait(&running.changed, ended, None);
        }
    }

    fn will_restart(&mut self, _: &DownReason) {}

    fn is_down(&mut self, _: &DownReason) {}

    fn pid(&self) -> Option<u32> {
        let running = self
            .running
            .as_ref()
            .filter(|running| !*lock(&running.ended));
        running.map(|running| running.process.pid())
    }
}
