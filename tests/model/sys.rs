//! What threads of one process share, with a step of the explorer at each access: stands in for the
//! library's `sys`. Outside of a run it is what std has.

use std::any::type_name;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Instant;

use crate::explore::{self, Place};

pub(crate) mod threads {
    pub(crate) use super::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard};
}

macro_rules! atomic {
    ($name:ident, $value:ty $(, $($arithmetic:ident),+)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(std::sync::atomic::$name);

        impl $name {
            pub(crate) const fn new(value: $value) -> $name {
                $name(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, _: Ordering) -> $value {
                step();
                self.0.load(Ordering::SeqCst)
            }

            pub(crate) fn store(&self, value: $value, _: Ordering) {
                step();
                self.0.store(value, Ordering::SeqCst);
            }

            pub(crate) fn swap(&self, value: $value, _: Ordering) -> $value {
                step();
                self.0.swap(value, Ordering::SeqCst)
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                _: Ordering,
                _: Ordering,
            ) -> Result<$value, $value> {
                step();
                self.0.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            }

            $($(pub(crate) fn $arithmetic(&self, value: $value, _: Ordering) -> $value {
                step();
                self.0.$arithmetic(value, Ordering::SeqCst)
            })+)?
        }
    };
}

use std::sync::atomic::Ordering;

atomic!(AtomicBool, bool);
atomic!(AtomicU64, u64, fetch_add);
atomic!(AtomicUsize, usize, fetch_add, fetch_sub);

/// Other threads may run before the access that follows. None runs between the two.
fn step() {
    explore::act(|_, _| ());
}

#[derive(Default)]
pub(crate) struct Mutex<T: ?Sized>(std::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// `None` only while it is being dropped.
    real: Option<std::sync::MutexGuard<'a, T>>,
    /// Whether the explorer knows of it.
    explored: bool,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex(std::sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>() as usize
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let address = mutex.address();
    let explored = explore::block_at(Place::Mutex(address), |state, me| {
        state.shared.locked.insert(address).then(|| state.count_locks(me, true))
    });
    let real = mutex.0.lock().unwrap_or_else(PoisonError::into_inner);
    MutexGuard { mutex, real: Some(real), explored: explored.is_some() }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.real = None;
        if self.explored {
            let address = self.mutex.address();
            explore::act(|state, me| state.unlock(address, me));
        }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.real.as_ref().expect("it is locked")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.real.as_mut().expect("it is locked")
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T: ?Sized> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MutexGuard")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(std::sync::Condvar::new())
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Which of the sleepers it wakes is for the script to decide.
    pub(crate) fn notify_one(&self) {
        let address = self.address();
        explore::act(|state, _| {
            let all = state.shared.sleepers.iter().enumerate();
            let here: Vec<usize> =
                all.filter(|(_, sleeper)| sleeper.0 == address).map(|(place, _)| place).collect();
            if !here.is_empty() {
                let chosen = state.choose(here.len());
                state.shared.sleepers.remove(here[chosen]);
                state.unblock(Place::Condition(address));
            }
        });
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        let address = self.address();
        explore::act(|state, _| {
            state.shared.sleepers.retain(|sleeper| sleeper.0 != address);
            state.unblock(Place::Condition(address));
        });
        self.0.notify_all();
    }
}

/// In a run no time passes: a deadline is over or never comes.
pub(crate) fn wait<'a, T>(
    condition: &Condvar,
    mut guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, T> {
    if !guard.explored {
        let real = guard.real.take().expect("it is locked");
        guard.real = Some(match deadline {
            None => condition.0.wait(real).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                condition.0.wait_timeout(real, left).unwrap_or_else(PoisonError::into_inner).0
            }
        });
        return guard;
    }
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return guard;
    }
    let (mutex, sleeps_at) = (guard.mutex, condition.address());
    // It unlocks and falls asleep in one step.
    guard.real = None;
    guard.explored = false;
    explore::act(|state, me| {
        state.unlock(mutex.address(), me);
        state.shared.sleepers.push((sleeps_at, me));
    });
    explore::block_at(Place::Condition(sleeps_at), |state, me| {
        (!state.shared.sleepers.contains(&(sleeps_at, me))).then_some(())
    });
    lock(mutex)
}

/// The receiving end of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawSocket(pub(crate) usize);

pub(crate) enum Received<E> {
    Packet,
    End,
    Late(E),
}

/// Takes a packet; waits for one unless it is late.
pub(crate) fn receive<E>(socket: RawSocket, late: impl Fn() -> Option<E>) -> Received<E> {
    let received = explore::block_at(Place::Socket(socket.0), |state, _| {
        let socket = state.shared.sockets.entry(socket.0).or_default();
        if socket.unread > 0 {
            socket.unread -= 1;
            return Some(Received::Packet);
        }
        if socket.ended { Some(Received::End) } else { late().map(Received::Late) }
    });
    received.expect("only a thread of a run receives")
}

fn change(socket: RawSocket, change: impl FnOnce(&mut explore::Socket)) {
    explore::act(|state, _| {
        change(state.shared.sockets.entry(socket.0).or_default());
        state.unblock(Place::Socket(socket.0));
        state.unblock(Place::Poller);
    });
}

pub(crate) fn send(socket: RawSocket) {
    change(socket, |socket| socket.unread += 1);
}

/// The sending end is closed.
pub(crate) fn end(socket: RawSocket) {
    change(socket, |socket| socket.ended = true);
}

pub(crate) fn has_packet(socket: RawSocket) -> bool {
    let found = explore::act(|state, _| {
        state.shared.sockets.get(&socket.0).is_some_and(explore::Socket::is_ready)
    });
    found.unwrap_or(false)
}

/// One-shot, level-triggered.
#[derive(Debug)]
pub(crate) struct Poller;

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        Ok(Poller)
    }

    pub(crate) fn add_disarmed(&self, socket: RawSocket, key: u64) -> io::Result<()> {
        change(socket, |socket| socket.polled = Some((key, false)));
        Ok(())
    }

    pub(crate) fn arm(&self, socket: RawSocket, key: u64) {
        change(socket, |socket| socket.polled = Some((key, true)));
    }

    pub(crate) fn remove(&self, socket: RawSocket) {
        change(socket, |socket| socket.polled = None);
    }

    pub(crate) fn wait(&self, _: Option<Instant>) -> BTreeSet<u64> {
        let ready = explore::block_at(Place::Poller, |state, _| {
            let mut ready = BTreeSet::new();
            for socket in state.shared.sockets.values_mut() {
                let is_ready = socket.is_ready();
                if let Some((key, armed)) = &mut socket.polled {
                    if is_ready && std::mem::take(armed) {
                        ready.insert(*key);
                    }
                }
            }
            (!ready.is_empty()).then_some(ready)
        });
        ready.expect("the reactor is a thread of a run")
    }
}

/// Each run has services of its own.
pub(crate) struct Service<T: 'static>(&'static str, PhantomData<fn() -> T>);

impl<T: Send + Sync> Service<T> {
    pub(crate) const fn new(thread: &'static str) -> Service<T> {
        Service(thread, PhantomData)
    }

    pub(crate) fn start<B>(
        &'static self,
        make: impl FnOnce() -> io::Result<(T, B)>,
    ) -> io::Result<&'static T>
    where
        B: FnOnce(&'static T) + Send + 'static,
    {
        explore::service(self.0, make)
            .unwrap_or_else(|| panic!("{} outside of a run", type_name::<T>()))
    }

    pub(crate) fn get(&'static self) -> Option<&'static T> {
        explore::find_service(self.0)
    }
}

pub(crate) fn watch_forks() {}

pub(crate) fn is_fork() -> bool {
    false
}
