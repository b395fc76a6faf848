//! Alarms for tasks, so that a call ends in time whatever the executor does.
//!
//! One service thread of the process, which the first alarm starts. It runs no user code except
//! wakers.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::task::Waker;
use std::time::Instant;

use crate::diagnostics;
use crate::ipc::catch;
use crate::sys::{self, Service, lock};

static ALARMS: Mutex<Alarms> = Mutex::new(Alarms { next: 0, all: BTreeMap::new() });
static CHANGED: Condvar = Condvar::new();
static THREAD: Service<()> = Service::new("offspring-alarms");

struct Alarms {
    next: u64,
    all: BTreeMap<(Instant, u64), Waker>,
}

/// Wakes one task at a set time. Dropping it cancels that.
#[derive(Debug, Default)]
pub(in crate::actor) struct Alarm(Option<(Instant, u64)>);

impl Alarm {
    /// Wakes `waker` at this time. Replaces what was set before.
    pub(in crate::actor) fn set(&mut self, at: Instant, waker: &Waker) {
        if let Err(error) = THREAD.start(|| Ok(((), |(): &()| run()))) {
            diagnostics::error(
                "offspring::actor",
                format_args!("a call of a task has no timeout: starting a thread failed: {error}"),
            );
        }
        // Without the lock, because cloning and dropping a waker run an executor's code.
        let waker = waker.clone();
        let mut alarms = lock(&ALARMS);
        let before = self.0.take().and_then(|key| alarms.all.remove(&key));
        let key = (at, alarms.next);
        alarms.next += 1;
        alarms.all.insert(key, waker);
        let first = alarms.all.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(alarms);
        self.0 = Some(key);
        if first {
            CHANGED.notify_all();
        }
        drop(before);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = self.0.and_then(|key| lock(&ALARMS).all.remove(&key));
        drop(waker);
    }
}

fn run() {
    let mut alarms = lock(&ALARMS);
    loop {
        let now = Instant::now();
        match alarms.all.first_entry() {
            Some(first) if first.key().0 <= now => {
                let waker = first.remove();
                drop(alarms);
                if let Err(error) = catch::catch_panic("waker", || waker.wake()) {
                    diagnostics::error("offspring::actor", format_args!("{error}"));
                }
                alarms = lock(&ALARMS);
            }
            first => {
                let until = first.map(|first| first.key().0);
                alarms = sys::wait(&CHANGED, alarms, until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    struct Record(u32, Sender<(u32, Instant)>);

    impl Wake for Record {
        fn wake(self: Arc<Self>) {
            self.1.send((self.0, Instant::now())).unwrap();
        }
    }

    #[test]
    fn alarms_come_in_their_order_and_not_too_early() {
        let (sender, woken) = channel();
        let start = Instant::now();
        let at = |n: u32| start + Duration::from_millis(50) * n;
        let mut alarms: Vec<_> = [3, 1, 2, 4].map(|n| (n, Alarm::default())).into();
        for (n, alarm) in &mut alarms {
            alarm.set(at(*n), &Arc::new(Record(*n, sender.clone())).into());
        }
        // An alarm that is set again comes only at the new time, and a dropped one never.
        alarms[1].1.set(at(5), &Arc::new(Record(1, sender.clone())).into());
        alarms.remove(2);
        drop(sender);
        let order: Vec<_> = woken.iter().collect();
        assert_eq!(order.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 4, 1]);
        assert!(order.iter().zip([3, 4, 5]).all(|((_, when), due)| *when >= at(due)));
    }
}
