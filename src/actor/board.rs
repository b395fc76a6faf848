//! Who waits for which answer of a session.

use std::collections::BTreeMap;

use crate::actor::letters::{Answer, CallNumber};
use crate::error::{DecodeError, RecvError};

/// What a call came to.
pub(super) enum Outcome<R> {
    Reply(R),
    /// The actor could not.
    Refused(String),
    Undecodable(DecodeError),
    Timeout,
    /// The incarnation is gone.
    Gone,
}

pub(super) struct Board<R> {
    next: CallNumber,
    /// Whether a thread receives, for all.
    pub(super) leads: bool,
    gone: bool,
    calls: Calls<R>,
}

/// What one who received for all got.
pub(super) enum Led<R> {
    Own(Outcome<R>),
    Other,
    Nothing,
}

impl<R> Board<R> {
    pub(super) fn new() -> Board<R> {
        Board {
            next: CallNumber(0),
            leads: false,
            gone: false,
            calls: Calls::new(),
        }
    }

    /// A new call, and how many others there are.
    pub(super) fn register(&mut self) -> (CallNumber, usize) {
        let mut call = self.next;
        // Numbers come again, and a call may wait for days.
        while self.calls.get_mut(call).is_some() {
            call = call.next();
        }
        self.next = call.next();
        let others = self.calls.len();
        self.calls.insert(call);
        (call, others)
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, call: CallNumber) {
        self.calls.remove(call);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.len() == 0
    }

    /// What a call came to, if that is known; then it is no more.
    pub(super) fn take(&mut self, call: CallNumber) -> Option<Outcome<R>> {
        let outcome = self.calls.get_mut(call).and_then(Option::take);
        let outcome = outcome.or_else(|| self.gone.then_some(Outcome::Gone))?;
        self.forget(call);
        Some(outcome)
    }

    /// What the thread of this call received goes to whom it belongs.
    pub(super) fn settle(&mut self, own: CallNumber, received: Result<Answer<R>, RecvError>) -> Led<R> {
        let (call, outcome) = match received {
            Ok(Answer { call, reply: Ok(reply) }) => (call, Outcome::Reply(reply)),
            Ok(Answer { call, reply: Err(message) }) => (call, Outcome::Refused(message)),
            Err(RecvError::Decode(error)) => match CallNumber::heard() {
                Some(call) => (call, Outcome::Undecodable(error)),
                None => return Led::Other,
            },
            Err(_) => {
                self.gone = true;
                return Led::Other;
            }
        };
        if call == own {
            self.forget(own);
            return Led::Own(outcome);
        }
        // An answer that nobody waits for came too late.
        if let Some(waits) = self.calls.get_mut(call) {
            *waits = Some(outcome);
        }
        Led::Other
    }
}

/// The calls that are out, and what they came to; `None` while they wait. Mostly there is one, which costs no tree.
struct Calls<R> {
    one: Option<(CallNumber, Option<Outcome<R>>)>,
    more: BTreeMap<CallNumber, Option<Outcome<R>>>,
}

impl<R> Calls<R> {
    fn new() -> Calls<R> {
        Calls {
            one: None,
            more: BTreeMap::new(),
        }
    }

    fn len(&self) -> usize {
        usize::from(self.one.is_some()) + self.more.len()
    }

    fn insert(&mut self, call: CallNumber) {
        if self.one.is_none() {
            self.one = Some((call, None));
        } else {
            self.more.insert(call, None);
        }
    }

    fn get_mut(&mut self, call: CallNumber) -> Option<&mut Option<Outcome<R>>> {
        match &mut self.one {
            Some((one, outcome)) if *one == call => Some(outcome),
            _ => self.more.get_mut(&call),
        }
    }

    fn remove(&mut self, call: CallNumber) {
        match &self.one {
            Some((one, _)) if *one == call => self.one = None,
            _ => drop(self.more.remove(&call)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_out_is_not_given_again() {
        let mut board = Board::<()>::new();
        let (long, _) = board.register();
        board.next = CallNumber(u32::MAX);
        let (last, _) = board.register();
        assert_eq!((long, last), (CallNumber(0), CallNumber(u32::MAX)));
        assert_eq!(board.register(), (CallNumber(1), 2));
    }
}
