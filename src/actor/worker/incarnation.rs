//! The entry point of an actor's process: builds the state, and starts the two threads that serve
//! it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::actor::actor::Actor;
use crate::actor::address::ActorRef;
use crate::actor::chain;
use crate::actor::context::{Context, ContextInner};
use crate::actor::link;
use crate::actor::protocol::{ActorExit, Blob, CallChain, Caller, Ending, Erased, Report, Request};
use crate::actor::timers::Timers;
use crate::actor::worker::serve::Incarnation;
use crate::channel::{Receiver, Sender};
use crate::error::DownReason;
use crate::process::{ProcessWorker, Worker};
use crate::queue::JoinableQueue;

/// The worker that runs an actor. Not public API, except for
/// [`register_actor!`](crate::register_actor), which registers it.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ActorProcess<A: Actor> {
    pub(crate) generation: u64,
    pub(crate) previous: Option<DownReason>,
    pub(crate) checkpoint: Option<Blob>,
    pub(crate) args: A::Args,
    pub(crate) inbound: Receiver<Request>,
    /// A sender to this process itself.
    pub(crate) requests: Sender<Request>,
    pub(crate) mailbox: JoinableQueue<Erased>,
    pub(crate) reports: Sender<Report>,
    pub(crate) address: ActorRef<A>,
    pub(crate) redeliver: u32,
}

impl<A: Actor> fmt::Debug for ActorProcess<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorProcess").field("address", &self.address).finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl<A: Actor> Worker for ActorProcess<A> {
    fn actor_name() -> Option<&'static str> {
        Some(std::any::type_name::<A>())
    }
}

#[diagnostic::do_not_recommend]
impl<A: Actor> ProcessWorker for ActorProcess<A> {
    type Output = ActorExit;

    fn run(self) -> ActorExit {
        let inner =
            ContextInner::new(self.generation, self.previous, self.checkpoint, self.requests);
        let context = Context::new(inner, self.address);
        let _timers = CloseTimers(context.timers.clone());
        link::set_own_actor(context.inner.clone());
        chain::set_own_actor(Caller {
            key: context.address.connection.key,
            name: context.name().to_owned(),
        });
        let state = match chain::handling(CallChain::default(), || A::start(self.args, &context)) {
            Ok(state) => state,
            Err(error) => {
                let error = error.to_string();
                // If the host is gone, this process ends with it.
                let _ = self.reports.send(Report::Started(Err(error.clone())));
                return ActorExit(Ending::Failed(error));
            }
        };
        let incarnation = Arc::new(Incarnation::new(
            state,
            context,
            self.reports,
            self.mailbox.cast(),
            self.redeliver,
        ));
        incarnation.report_started();
        let timed = incarnation.clone();
        incarnation.context().timers.open(Arc::new(move || timed.serve_timer()));
        let mailbox_thread = incarnation.clone();
        let thread = std::thread::Builder::new().name("offspring-casts".to_owned());
        if let Err(error) = thread.spawn(move || mailbox_thread.serve_mailbox()) {
            return ActorExit(Ending::Failed(format!("could not start a thread: {error}")));
        }
        ActorExit(incarnation.serve_requests(&self.inbound))
    }
}

/// Ends the timers with the actor, even if the actor panics: if it runs on a thread, the process
/// continues.
struct CloseTimers<M: Send + 'static>(Arc<Timers<M>>);

impl<M: Send + 'static> Drop for CloseTimers<M> {
    fn drop(&mut self) {
        self.0.close();
    }
}
