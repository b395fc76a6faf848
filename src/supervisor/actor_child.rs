//! An actor under a supervisor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actor::{self, Actor, ActorRef, Entry, Plan, Post, Status};
use crate::error::{DownReason, StartError};
use crate::supervisor::child::{Child, OnChildEnd};
use crate::supervisor::strategy::{Restart, Shutdown};

/// How long clients wait for the supervisor to announce what happens after a death. A supervisor
/// that is starting or stopping another child announces nothing meanwhile.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_millis(20);

pub(super) struct ActorChild<A: Actor> {
    pub(super) builder: actor::ActorBuilder,
    pub(super) args: A::Args,
    /// Made by the first start. Taken when the actor is down for good: a later start makes a new
    /// one.
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
    fn start(&mut self, restart: Restart, on_end: OnChildEnd) -> Result<(), StartError> {
        if self.post.is_none() {
            self.post = Some(self.builder.open::<A>()?);
        }
        let (post, address) = self.post.as_ref().expect("made above");
        let end = move |post: &Arc<Post>, generation, reason: DownReason| {
            let restarts = restart.applies(&reason).then(|| reason.clone());
            on_end(reason);
            if let Some(reason) = restarts {
                post.restarts_unless_told(generation, reason, ANNOUNCE_TIMEOUT);
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
            // Ahead of its mail: what it has not handled stays for its next incarnation.
            post.ask_to_stop(false, deadline);
        }
        if !post.wait_end(deadline) {
            post.kill();
            post.wait_end(None);
        }
    }

    fn announce_restart(&mut self, reason: &DownReason) {
        if let Some((post, _)) = &self.post {
            let (generation, reason) = (post.generation(), reason.clone());
            post.publish(Status::Restarting { generation, reason });
        }
    }

    fn announce_down(&mut self, reason: &DownReason) {
        if let Some((post, _)) = self.post.take() {
            self.builder.close(&post, reason.clone());
        }
    }

    fn pid(&self) -> Option<u32> {
        self.post.as_ref().and_then(|(post, _)| post.pid())
    }

    fn entry(&self) -> Option<Entry> {
        let (_, address) = self.post.as_ref()?;
        address.entry().ok()
    }
}

impl<A: Actor> Drop for ActorChild<A> {
    /// Nothing runs unsupervised, however the supervisor ended.
    fn drop(&mut self) {
        if let Some((post, _)) = &self.post {
            post.kill();
        }
    }
}
