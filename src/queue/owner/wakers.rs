//! Tasks and selectors at a queue: they wait without a thread.
//!
//! They want an item as a thread that waits does, but no item is theirs before they come for it: one that was told may
//! be busy with other things, so what is kept for it is kept for a moment only. And since it may be about to put, it does
//! not make the queue abandoned for others.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use crate::ipc::reactor::{EventSource, Held, Interest, WakerSet, WakerSlot};
use crate::ipc::region::Region;
use crate::queue::client::attachment::Attached;
use crate::queue::layout::{self, Word};
use crate::queue::owner::schedule::STALLED;
use crate::queue::owner::state::{Core, Over, State};
use crate::sys;

/// Those of the owner's process.
#[derive(Debug, Default)]
pub(in crate::queue) struct Tasks {
    pub(in crate::queue) items: Bell,
    pub(in crate::queue) room: Bell,
    pub(in crate::queue) done: Bell,
    /// When some were told of an item that none of them has taken.
    told: Option<Instant>,
}

/// Those who wait for one thing, and whether they are to be woken once the state is unlocked.
#[derive(Debug, Default)]
pub(in crate::queue) struct Bell {
    waiters: Arc<WakerSet>,
    rung: bool,
}

impl Bell {
    pub(in crate::queue) fn register(&self) -> io::Result<WakerSlot> {
        self.waiters.register()
    }

    pub(in crate::queue) fn is_awaited(&self) -> bool {
        self.waiters.is_awaited()
    }

    pub(in crate::queue) fn ring(&mut self) {
        self.rung = self.is_awaited();
    }

    fn take(&mut self) -> Option<Arc<WakerSet>> {
        std::mem::take(&mut self.rung).then(|| self.waiters.clone())
    }
}

impl Tasks {
    /// Tells those who wait for an item that one is there.
    pub(in crate::queue) fn tell_item(&mut self) {
        self.items.ring();
        self.told = Some(Instant::now());
    }

    /// An item was taken in this process.
    pub(in crate::queue) fn taken(&mut self) {
        self.told = None;
    }

    /// Until when one item stays for those who were told.
    pub(in crate::queue) fn kept_until(&self) -> Option<Instant> {
        self.told.map(|told| told + STALLED)
    }

    /// Whether the next item is not for other processes.
    pub(in crate::queue) fn keep_one(&self) -> bool {
        self.items.is_awaited()
            || self
                .kept_until()
                .is_some_and(|until| until > Instant::now())
    }

    fn take(&mut self) -> [Option<Arc<WakerSet>>; 3] {
        [self.items.take(), self.room.take(), self.done.take()]
    }

    fn is_rung(&self) -> bool {
        self.items.rung || self.room.rung || self.done.rung
    }
}

/// The state, locked. Who was told of a change is woken after it is unlocked: his waker may be anybody's code.
pub(in crate::queue) struct Locked<'a> {
    mutex: &'a Mutex<State>,
    /// `None` only while it is unlocked.
    state: Option<MutexGuard<'a, State>>,
}

impl<'a> Locked<'a> {
    pub(in crate::queue) fn new(mutex: &'a Mutex<State>) -> Locked<'a> {
        let state = Some(sys::lock(mutex));
        Locked { mutex, state }
    }

    /// Sleeps on a condition variable until `deadline`; not at all, if it has to wake somebody first.
    pub(in crate::queue) fn wait(
        mut self,
        condition: &Condvar,
        deadline: Option<Instant>,
    ) -> Locked<'a> {
        let mutex = self.mutex;
        match self.state.take_if(|state| !state.local.tasks.is_rung()) {
            Some(state) => {
                let state = Some(sys::wait(condition, state, deadline));
                Locked { mutex, state }
            }
            None => {
                drop(self);
                Locked::new(mutex)
            }
        }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
            .as_ref()
            .expect("it is locked until it is dropped")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.state
            .as_mut()
            .expect("it is locked until it is dropped")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else {
            return;
        };
        if state.local.tasks.is_rung() {
            let told = state.local.tasks.take();
            drop(state);
            told.iter().flatten().for_each(|waiters| waiters.wake());
        }
    }
}

impl Core {
    /// Why a task of this process gets no item any more, if it is so.
    pub(in crate::queue) fn over_for_tasks(&self, state: &mut State) -> Option<Over> {
        state.local.getters += 1;
        let over = self.over(state, None);
        state.local.getters -= 1;
        over
    }
}

impl EventSource for Core {
    fn register(&self) -> io::Result<WakerSlot> {
        let mut state = self.lock();
        state.local.has_got = true;
        state.local.tasks.items.register()
    }

    fn is_ready(&self, seat: Interest<'_>) -> bool {
        let mut state = self.lock();
        self.drain_all(&mut state);
        self.settle(&mut state);
        let ready = !state.store.is_empty() || self.over_for_tasks(&mut state).is_some();
        if let (false, Some((waiter, waker))) = (ready, seat) {
            waiter.set(waker);
        }
        self.watch(&mut state);
        ready
    }
}

/// While it lasts, a task or selector of this client wants an item.
#[derive(Debug)]
pub(in crate::queue) struct Wants(Arc<Region>);

impl Wants {
    pub(in crate::queue) fn new(region: Arc<Region>) -> Wants {
        layout::word(&region, Word::Tasks).fetch_add(1, Ordering::SeqCst);
        Wants(region)
    }
}

impl Drop for Wants {
    fn drop(&mut self) {
        layout::word(&self.0, Word::Tasks).fetch_sub(1, Ordering::SeqCst);
    }
}

impl Held for Wants {}

impl EventSource for Attached {
    fn register(&self) -> io::Result<WakerSlot> {
        Ok(self.session().register()?.with(self.wants()))
    }

    fn is_ready(&self, seat: Interest<'_>) -> bool {
        let ready = self
            .session()
            .poll(seat, || self.has_next().then_some(()))
            .is_ready();
        if !ready && seat.is_some() {
            // As each wait of a thread: the owner may not know that there is a seat, or that all it sent was taken.
            self.session().ring();
        }
        ready
    }
}
