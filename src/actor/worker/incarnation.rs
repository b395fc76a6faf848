//! An actor's process.
//!
//! Two threads bring messages to the state, one at a time: the main thread direct calls and what the keeper says, the
//! other one what lies in the mailbox. So a call needs no hop inside the process, and a cast is taken out of the mailbox only when its
//! turn has come.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::actor::actor::{Actor, Context, Inner};
use crate::actor::address::ActorRef;
use crate::actor::client::call::{be_actor, handling};
use crate::actor::link;
use crate::actor::protocol::{Blob, Caller, Ending, Erased, Report, Request};
use crate::actor::worker::serve::Incarnation;
use crate::channel::{Receiver, Sender};
use crate::error::DownReason;
use crate::process::{ProcessWorker, Worker};
use crate::queue::JoinableQueue;

/// The worker that runs an actor: what `register_actor!` registers.
///
/// Made by those who start actors; there is nothing in it for others.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ActorProcess<A: Actor> {
    pub(crate) generation: u64,
    pub(crate) previous: Option<DownReason>,
    pub(crate) checkpoint: Option<Blob>,
    pub(crate) args: A::Args,
    pub(crate) inbound: Receiver<Request>,
    /// To itself.
    pub(crate) door: Sender<Request>,
    pub(crate) mailbox: JoinableQueue<Erased>,
    pub(crate) reports: Sender<Report>,
    pub(crate) address: ActorRef<A>,
    pub(crate) redeliver: u32,
}

impl<A: Actor> fmt::Debug for ActorProcess<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorProcess")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl<A: Actor> Worker for ActorProcess<A> {}

#[diagnostic::do_not_recommend]
impl<A: Actor> ProcessWorker for ActorProcess<A> {
    type Output = ActorExit;

    fn run(self) -> ActorExit {
        let context = Context {
            inner: Arc::new(Inner {
                generation: self.generation,
                previous: self.previous,
                checkpoint: self.checkpoint,
                ending: Mutex::new(None),
                news: AtomicBool::new(false),
                door: self.door,
            }),
            address: self.address,
        };
        link::be_actor(context.inner.clone());
        be_actor(Caller {
            key: context.address.link.key,
            name: context.name().to_owned(),
        });
        let state = match handling(Vec::new(), || A::start(self.args, &context)) {
            Ok(state) => state,
            Err(error) => {
                let error = error.to_string();
                // A keeper that is gone takes this process along.
                let _ = self.reports.send(Report::Started(Err(error.clone())));
                return ActorExit(Ending::Failed(error));
            }
        };
        let incarnation = Incarnation::new(
            state,
            context,
            self.reports,
            self.mailbox.cast(),
            self.redeliver,
        );
        let incarnation = Arc::new(incarnation);
        incarnation.has_started();
        let other = incarnation.clone();
        let thread = std::thread::Builder::new().name("offspring-casts".to_owned());
        if let Err(error) = thread.spawn(move || other.take_casts()) {
            return ActorExit(Ending::Failed(format!("could not start a thread: {error}")));
        }
        ActorExit(incarnation.take_requests(&self.inbound))
    }
}

/// How an actor's process ended by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActorExit(pub(crate) Ending);
