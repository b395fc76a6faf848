//! Who waits for which answer of a session.

use std::collections::BTreeMap;

use crate::actor::protocol::{CallNumber, Direct};
use crate::error::DecodeError;

/// Calls of one session that wait at once, and go around the mailbox; more wait in it, so that it bounds them.
const DIRECT_MAX: usize = 16;

/// What a call came to.
#[derive(Debug)]
pub(in crate::actor) enum CallOutcome<R> {
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
pub(in crate::actor) enum CallId {
    /// The place that it has among the direct ones.
    Direct(usize),
    Letter(CallNumber),
}

pub(in crate::actor) struct Board<R> {
    /// Whether a thread receives, for all.
    pub(in crate::actor) leads: bool,
    gone: bool,
    /// So many wait.
    waiting: usize,
    /// So many places are left.
    left: usize,
    places: Vec<Place<R>>,
    letters: BTreeMap<CallNumber, Option<CallOutcome<R>>>,
    /// So many calls went through the mailbox.
    posted: u64,
}

/// Of a direct call.
enum Place<R> {
    Free,
    Waits,
    Given(CallOutcome<R>),
    /// Nobody waits any more. The next call must not have the place before the answer has come, which would be taken for its own.
    Left,
}

/// What one who receives for all got.
pub(in crate::actor) enum Received<R> {
    Answer(CallId, CallOutcome<R>),
    /// It belongs to nobody.
    Stray,
    Timeout,
    /// This process has no descriptors left for it. It stays.
    Starved,
    Gone,
}

/// What that is to the one who received it.
pub(in crate::actor) enum Led<R> {
    Own(CallOutcome<R>),
    /// With what nobody wants, to be dropped without the board's lock: that may be a call.
    Other(Option<CallOutcome<R>>),
    Nothing,
    Starved,
}

impl<R> Board<R> {
    pub(in crate::actor) fn new() -> Board<R> {
        Board {
            leads: false,
            gone: false,
            waiting: 0,
            left: 0,
            places: Vec::new(),
            letters: BTreeMap::new(),
            posted: 0,
        }
    }

    /// A new call. It goes through the mailbox if it is not to be direct, or too many wait.
    pub(in crate::actor) fn register(&mut self, direct: bool) -> CallId {
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
        let free = self
            .places
            .iter()
            .position(|place| matches!(place, Place::Free));
        free.or_else(|| {
            let next = self.places.len();
            (next < Direct::PLACES).then(|| {
                self.places.push(Place::Free);
                next
            })
        })
    }

    pub(in crate::actor) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Direct calls whose answers will come, and that nobody waits for.
    pub(in crate::actor) fn left(&self) -> usize {
        self.left
    }

    pub(in crate::actor) fn is_gone(&self) -> bool {
        self.gone
    }

    /// The call did not get on its way, or its answer was received.
    pub(in crate::actor) fn cancel(&mut self, call: CallId) {
        self.waiting -= 1;
        match call {
            CallId::Direct(place) => self.places[place] = Place::Free,
            CallId::Letter(number) => drop(self.letters.remove(&number)),
        }
    }

    /// Nobody waits for its answer any more. One that was there already is given back, to be dropped without the board's lock.
    pub(in crate::actor) fn leave(&mut self, call: CallId) -> Option<CallOutcome<R>> {
        self.waiting -= 1;
        match call {
            CallId::Direct(place) => {
                match std::mem::replace(&mut self.places[place], Place::Free) {
                    Place::Given(outcome) => Some(outcome),
                    Place::Waits => {
                        self.places[place] = Place::Left;
                        self.left += 1;
                        None
                    }
                    Place::Free | Place::Left => None,
                }
            }
            CallId::Letter(number) => self.letters.remove(&number).flatten(),
        }
    }

    /// What a call came to, if that is known; then it is no more.
    pub(in crate::actor) fn take(&mut self, call: CallId) -> Option<CallOutcome<R>> {
        let given = match call {
            CallId::Direct(place) => matches!(self.places[place], Place::Given(_)),
            CallId::Letter(number) => matches!(self.letters.get(&number), Some(Some(_))),
        };
        (given || self.gone).then(|| self.leave(call).unwrap_or(CallOutcome::Gone))
    }

    /// What the thread of this call received goes to whom it belongs.
    pub(in crate::actor) fn settle(
        &mut self,
        own: Option<CallId>,
        received: Received<R>,
    ) -> Led<R> {
        match received {
            Received::Answer(call, outcome) if Some(call) == own => {
                self.cancel(call);
                Led::Own(outcome)
            }
            Received::Answer(call, outcome) => Led::Other(self.give(call, outcome)),
            Received::Stray => Led::Other(None),
            Received::Timeout => Led::Nothing,
            Received::Starved => Led::Starved,
            Received::Gone => {
                self.gone = true;
                Led::Other(None)
            }
        }
    }

    /// Gives it to who waits for it; back if nobody does.
    fn give(&mut self, call: CallId, outcome: CallOutcome<R>) -> Option<CallOutcome<R>> {
        match call {
            CallId::Direct(place) => match self.places.get_mut(place) {
                Some(place @ Place::Waits) => *place = Place::Given(outcome),
                Some(place @ Place::Left) => {
                    *place = Place::Free;
                    self.left -= 1;
                    return Some(outcome);
                }
                // The actor answered twice, or what was not asked.
                _ => return Some(outcome),
            },
            CallId::Letter(number) => match self.letters.get_mut(&number) {
                Some(waits @ None) => *waits = Some(outcome),
                // It came too late.
                _ => return Some(outcome),
            },
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(call: CallId) -> Received<u32> {
        Received::Answer(call, CallOutcome::Reply(7))
    }

    #[test]
    fn a_place_is_free_again_when_its_answer_has_come() {
        let mut board = Board::<u32>::new();
        let left = board.register(true);
        board.leave(left);
        let own = board.register(true);
        assert_eq!((left, own), (CallId::Direct(0), CallId::Direct(1)));
        assert_eq!(board.left(), 1);
        assert!(matches!(
            board.settle(Some(own), reply(left)),
            Led::Other(Some(_))
        ));
        assert!(board.take(left).is_none() && board.left() == 0);
        assert_eq!(board.register(true), CallId::Direct(0));
        assert!(matches!(
            board.settle(Some(own), reply(own)),
            Led::Own(CallOutcome::Reply(7))
        ));
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
        assert!(matches!(
            board.settle(Some(direct[0]), reply(letter)),
            Led::Other(None)
        ));
        assert!(matches!(board.take(letter), Some(CallOutcome::Reply(7))));
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
        for call in [
            CallId::Direct(1),
            CallId::Direct(200),
            CallId::Letter(CallNumber(5)),
        ] {
            assert!(matches!(
                board.settle(Some(own), reply(call)),
                Led::Other(Some(_))
            ));
        }
        assert!(board.take(own).is_none());
        board.settle(None, Received::Gone);
        assert!(matches!(board.take(own), Some(CallOutcome::Gone)));
        assert_eq!(board.waiting(), 0);
    }
}
