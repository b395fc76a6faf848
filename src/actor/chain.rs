//! The chain of actors that wait for the message that this thread is handling: `worker` sets it,
//! and `client` sends it with each call.
//!
//! Actor A calls B, which calls C: C handles its message with the chain `[A, B]`. If C called A,
//! all three would wait forever. [`check_cycle`] finds A in the chain, and makes that call an
//! error.

use std::cell::RefCell;
use std::sync::OnceLock;

use crate::actor::protocol::{ActorKey, CallChain, Caller};
use crate::error::CallError;
use crate::trace;

/// The actor that runs in this process.
static ACTOR: OnceLock<Caller> = OnceLock::new();

thread_local! {
    /// The actors that wait for the message that this thread is handling; `None` if it is handling
    /// none.
    static HANDLING: RefCell<Option<CallChain>> = const { RefCell::new(None) };
}

pub(in crate::actor) fn set_own_actor(own: Caller) {
    let _ = ACTOR.set(own);
}

/// Runs `handle` with `chain` as the actors that wait for it.
pub(in crate::actor) fn handling<T>(chain: CallChain, handle: impl FnOnce() -> T) -> T {
    struct RestoreChain(Option<CallChain>);
    impl Drop for RestoreChain {
        fn drop(&mut self) {
            HANDLING.set(self.0.take());
        }
    }
    let _attached = trace::attach(chain.origin());
    let _restore = RestoreChain(HANDLING.replace(Some(chain)));
    handle()
}

/// Returns the chain of a call by this thread: the actors that already wait for this one, and this
/// one. Empty on a thread that is handling no message.
pub(in crate::actor) fn current() -> CallChain {
    HANDLING.with_borrow(|waiting| match waiting {
        None => CallChain::default(),
        Some(waiting) => {
            CallChain::of(waiting.callers.iter().chain(ACTOR.get()).cloned().collect())
        }
    })
}

/// Returns an error if a call with this chain to actor `key` would wait for itself.
pub(in crate::actor) fn check_cycle(
    chain: &[Caller],
    key: ActorKey,
    name: &str,
) -> Result<(), CallError> {
    let Some(first) = chain.iter().position(|caller| caller.key == key) else {
        return Ok(());
    };
    let names = chain[first..].iter().map(|caller| caller.name.as_str());
    let path: Vec<&str> = names.chain([name]).collect();
    Err(CallError::Cycle { path: path.join(" -> ") })
}
