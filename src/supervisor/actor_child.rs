//! An actor under a supervisor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actor::{self, Actor, ActorRecord, ActorRef, ActorStatus, StartOptions, UntypedRef};
use crate::error::{DownReason, StartError};
use crate::supervisor::child::{Child, ChildOptions, OnChildEnd};
use crate::supervisor::strategy::{Restart, Shutdown};

/// How long clients wait for the supervisor to announce what happens after a death. While a
/// supervisor starts or stops another child, it announces nothing.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_millis(20);

pub(super) struct ActorChild<A: Actor> {
    builder: actor::ActorBuilder,
    args: A::Args,
    /// Made by the first start, or before it by [`open`](ActorChild::open). Taken when the actor is
    /// down for good, so that a later start makes a new one.
    record: Option<(Arc<ActorRecord>, ActorRef<A>)>,
}

impl<A: Actor> ActorChild<A> {
    pub(super) fn new(builder: actor::ActorBuilder, args: A::Args) -> ActorChild<A> {
        ActorChild { builder, args, record: None }
    }

    /// Returns the actor's address, even before the first start.
    pub(super) fn open(&mut self) -> Result<ActorRef<A>, StartError> {
        if self.record.is_none() {
            self.record = Some(self.builder.open::<A>()?);
        }
        let (_, address) = self.record.as_ref().expect("made above");
        Ok(address.clone())
    }

    /// Applies the options of the `ChildSpec`.
    pub(super) fn configure(&mut self, options: ChildOptions) {
        let mut builder = self.builder.clone();
        if let Some(limit) = options.heartbeat {
            builder = builder.heartbeat(limit);
        }
        if let Some(configure) = options.configure {
            builder = builder.process_too(configure);
        }
        self.builder = builder;
    }

    fn options(&self) -> &StartOptions {
        self.builder.options()
    }
}

impl<A: Actor> Child for ActorChild<A>
where
    A::Args: Clone + Send,
{
    fn start(&mut self, restart: Restart, on_end: OnChildEnd) -> Result<(), StartError> {
        self.open()?;
        let (record, address) = self.record.as_ref().expect("it is open");
        let end = move |record: &Arc<ActorRecord>, generation, reason: DownReason| {
            let restarts = restart.applies(&reason).then(|| reason.clone());
            on_end(reason);
            if let Some(reason) = restarts {
                record.publish_restarting_after(generation, reason, ANNOUNCE_TIMEOUT);
            }
        };
        actor::launch(record, address, self.args.clone(), self.options(), Box::new(end))
    }

    fn stop(&mut self, shutdown: Shutdown) {
        let Some((record, _)) = &self.record else {
            return;
        };
        let deadline = match shutdown {
            Shutdown::Kill => Some(Instant::now()),
            Shutdown::Timeout(grace) => Instant::now().checked_add(grace),
            Shutdown::Infinity => None,
        };
        if shutdown != Shutdown::Kill {
            // The request goes ahead of the actor's mail: what the actor has not handled stays for
            // its next incarnation.
            record.request_stop(false, deadline);
        }
        if !record.wait_end(deadline) {
            record.kill();
            record.wait_end(None);
        }
    }

    fn announce_restart(&mut self, reason: &DownReason) {
        if let Some((record, _)) = &self.record {
            let (generation, reason) = (record.generation(), reason.clone());
            record.publish(ActorStatus::Restarting { generation, reason });
        }
    }

    fn announce_down(&mut self, reason: &DownReason) {
        if let Some((record, _)) = self.record.take() {
            self.builder.close(&record, reason.clone());
        }
    }

    fn pid(&self) -> Option<u32> {
        self.record.as_ref().and_then(|(record, _)| record.pid())
    }

    fn address(&self) -> Option<UntypedRef> {
        let (_, address) = self.record.as_ref()?;
        address.to_untyped().ok()
    }
}

impl<A: Actor> Drop for ActorChild<A> {
    /// No child may outlive its supervisor, however that ended, and no client may wait for an actor
    /// that its supervisor never started.
    fn drop(&mut self) {
        if let Some((record, _)) = self.record.take() {
            record.kill();
            self.builder.close(&record, DownReason::Shutdown);
        }
    }
}
