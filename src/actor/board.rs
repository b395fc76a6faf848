//! Who waits for which answer of a session.

use std::collections::BTreeMap;

use crate::actor::letters::{CallNumber, Direct};
use crate::error::DecodeError;

/// Calls of one session that wait at once, and go around the mailbox; more wait in it, so that it bounds them.
const DIRECT_MAX: usize = 16;

/// What a call came to.
#[derive(Debug)]
pub(super) enum Outcome<R> {
    Reply(R),
    /// The actor could not.
    Refused(String),
    Undecodable(DecodeError),
    Timeout,
    /// The incarnation is gone.
    Gone,
}

/// Which call of its session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallId {
    /// The place that it has among the direct ones.
    Direct(usize),
    Letter(CallNumber),
}

pub(super) struct Board<R> {
    /// Whether a thread receives, for all.
    pub(super) leads: bool,
    gone: bool,
    /// So many wait.
    waiting: usize,
    places: Vec<Place<R>>,
    letters: BTreeMap<CallNumber, Option<Outcome<R>>>,
    /// So many calls went through the mailbox.
    posted: u64,
}

/// Of a direct call.
enum Place<R> {
    Free,
    Waits,
    Given(Outcome<R>),
    /// Nobody waits any more. The next call must not have the place before the answer has come, which would be taken for its own.
    Left,
}

/// What one who receives for all got.
pub(super) enum Received<R> {
    Answer(CallId, Outcome<R>),
    /// It belongs to nobody.
    Stray,
    Timeout,
    Gone,
}

/// What that is to the one who received it.
pub(super) enum Led<R> {
    Own(Outcome<R>),
    Other,
    Nothing,
}

impl<R> Board<R> {
    pub(super) fn new() -> Board<R> {
        Board {
            leads: false,
            gone: false,
            waiting: 0,
            places: Vec::new(),
            letters: BTreeMap::new(),
            posted: 0,
        }
    }

    /// A new call. It goes through the mailbox if it is not to be direct, or too many wait.
    pub(super) fn register(&mut self, direct: bool) -> CallId {
        let direct = direct && self.waiting < DIRECT_MAX;
        self.waiting += 1;
        if let Some(place) = direct.then(|| self.free_place()).flatten() {
            self.places[place] = Place::Waits;
            return CallId::Direct(place);
        }
        let number = CallNumber(self.posted);
        self.posted += 1;
        self.letters.insert(number, None);
        CallId::Letter(number)
    }

    fn free_place(&mut self) -> Option<usize> {
        let free = self.places.iter().position(|place| matches!(place, Place::Free));
        free.or_else(|| {
            let next = self.places.len();
            (next < Direct::PLACES).then(|| {
                self.places.push(Place::Free);
                next
            })
        })
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The call did not get on its way.
    pub(super) fn cancel(&mut self, call: CallId) {
        self.end(call, Place::Free);
    }

    /// Nobody waits for its answer any more.
    pub(super) fn leave(&mut self, call: CallId) {
        let left = match call {
            CallId::Direct(place) if matches!(self.places[place], Place::Waits) => Place::Left,
            _ => Place::Free,
        };
        self.end(call, left);
    }

    fn end(&mut self, call: CallId, left: Place<R>) {
        self.waiting -= 1;
        match call {
            CallId::Direct(place) => self.places[place] = left,
            CallId::Letter(number) => drop(self.letters.remove(&number)),
        }
    }

    /// What a call came to, if that is known; then it is no more.
    pub(super) fn take(&mut self, call: CallId) -> Option<Outcome<R>> {
        let given = match call {
            CallId::Direct(place) => match &mut self.places[place] {
                given @ Place::Given(_) => match std::mem::replace(given, Place::Free) {
                    Place::Given(outcome) => Some(outcome),
                    _ => None,
                },
                _ => None,
            },
            CallId::Letter(number) => self.letters.get_mut(&number).and_then(Option::take),
        };
        let outcome = given.or_else(|| self.gone.then_some(Outcome::Gone))?;
        self.leave(call);
        Some(outcome)
    }

    /// What the thread of this call received goes to whom it belongs.
    pub(super) fn settle(&mut self, own: CallId, received: Received<R>) -> Led<R> {
        match received {
            Received::Answer(call, outcome) if call == own => {
                self.cancel(own);
                Led::Own(outcome)
            }
            Received::Answer(call, outcome) => {
                self.give(call, outcome);
                Led::Other
            }
            Received::Stray => Led::Other,
            Received::Timeout => Led::Nothing,
            Received::Gone => {
                self.gone = true;
                Led::Other
            }
        }
    }

    fn give(&mut self, call: CallId, outcome: Outcome<R>) {
        match call {
            CallId::Direct(place) => match self.places.get_mut(place) {
                Some(place @ Place::Waits) => *place = Place::Given(outcome),
                Some(place @ Place::Left) => *place = Place::Free,
                // The actor answered twice, or what was not asked.
                _ => {}
            },
            // One that nobody waits for came too late.
            CallId::Letter(number) => {
                if let Some(waits) = self.letters.get_mut(&number) {
                    *waits = Some(outcome);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(call: CallId) -> Received<u32> {
        Received::Answer(call, Outcome::Reply(7))
    }

    #[test]
    fn a_place_is_free_again_when_its_answer_has_come() {
        let mut board = Board::<u32>::new();
        let left = board.register(true);
        board.leave(left);
        let own = board.register(true);
        assert_eq!((left, own), (CallId::Direct(0), CallId::Direct(1)));
        assert!(matches!(board.settle(own, reply(left)), Led::Other));
        assert!(board.take(left).is_none());
        assert_eq!(board.register(true), CallId::Direct(0));
        assert!(matches!(board.settle(own, reply(own)), Led::Own(Outcome::Reply(7))));
        assert_eq!(board.register(true), CallId::Direct(1));
        assert_eq!(board.waiting(), 2);
    }

    #[test]
    fn who_finds_no_place_goes_through_the_mailbox() {
        let mut board = Board::<u32>::new();
        let direct: Vec<_> = (0..DIRECT_MAX).map(|_| board.register(true)).collect();
        assert!(direct.iter().all(|call| matches!(call, CallId::Direct(_))));
        let letter = board.register(true);
        assert_eq!(letter, CallId::Letter(CallNumber(0)));
        board.cancel(direct[3]);
        board.cancel(direct[5]);
        assert_eq!(board.register(true), direct[3]);
        assert_eq!(board.register(false), CallId::Letter(CallNumber(1)));
        assert!(matches!(board.settle(direct[0], reply(letter)), Led::Other));
        assert!(matches!(board.take(letter), Some(Outcome::Reply(7))));
        assert_eq!(board.waiting(), DIRECT_MAX);
    }

    #[test]
    fn calls_that_were_left_keep_their_places_until_there_are_none() {
        let mut board = Board::<u32>::new();
        for place in 0..Direct::PLACES {
            let call = board.register(true);
            assert_eq!(call, CallId::Direct(place));
            board.leave(call);
        }
        assert!(matches!(board.register(true), CallId::Letter(_)));
        let last = Direct {
            place: Direct::PLACES - 1,
            special: true,
        };
        assert_eq!(Direct::of(last.mark()), Some(last));
    }

    #[test]
    fn answers_that_nobody_asked_for_change_nothing() {
        let mut board = Board::<u32>::new();
        let own = board.register(true);
        for call in [CallId::Direct(1), CallId::Direct(200), CallId::Letter(CallNumber(5))] {
            assert!(matches!(board.settle(own, reply(call)), Led::Other));
        }
        assert!(board.take(own).is_none());
        board.settle(own, Received::Gone);
        assert!(matches!(board.take(own), Some(Outcome::Gone)));
        assert_eq!(board.waiting(), 0);
    }
}
