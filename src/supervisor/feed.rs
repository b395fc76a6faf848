//! The way of events to those who listen: a slow one misses some, and holds up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::time::Duration;

use crate::supervisor::events::Event;

/// So many events wait for a listener.
const WAITING: usize = 1024;

#[derive(Debug)]
pub(super) struct Listener {
    events: SyncSender<Event>,
    missed: Arc<AtomicU64>,
}

/// The events of a supervisor from now on, until its end; up to 1024 wait to be read. Dropping it ends the telling.
///
/// ```
/// use offspring::supervisor::{ChildSpec, Supervisor};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().start()?;
///     let events = supervisor.events();
///     supervisor.start_child(ChildSpec::worker_with("server", |_| serve::new()))?;
///     supervisor.stop();
///     for event in events {
///         println!("{event:?}"); // it was started, and stopped; then the events end
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Events {
    events: Receiver<Event>,
    missed: Arc<AtomicU64>,
}

pub(super) fn feed() -> (Listener, Events) {
    let (sender, events) = sync_channel(WAITING);
    let missed = Arc::new(AtomicU64::new(0));
    let listener = Listener {
        events: sender,
        missed: missed.clone(),
    };
    (listener, Events { events, missed })
}

impl Listener {
    /// Whether anybody listens still.
    pub(super) fn tell(&self, event: &Event) -> bool {
        match self.events.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Events {
    /// The next event; waits at most this long. `None` then, and after the supervisor's end.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Event> {
        self.next_or(|events| events.recv_timeout(timeout))
    }

    fn next_or(
        &self,
        wait: impl FnOnce(&Receiver<Event>) -> Result<Event, RecvTimeoutError>,
    ) -> Option<Event> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            // Those that lay here came before those that were missed.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                match self.missed.swap(0, Ordering::Relaxed) {
                    0 => wait(&self.events).ok(),
                    missed => Some(Event::Missed(missed)),
                }
            }
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.next_or(|events| events.recv().map_err(|_| RecvTimeoutError::Disconnected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_listener_learns_how_many_it_missed() {
        let (listener, mut events) = feed();
        let event = Event::Stopped { id: "a".to_owned() };
        (0..WAITING + 3).for_each(|_| assert!(listener.tell(&event)));
        assert_eq!(
            events
                .by_ref()
                .take(WAITING)
                .filter(|seen| *seen == event)
                .count(),
            WAITING
        );
        assert_eq!(events.next(), Some(Event::Missed(3)));
        assert_eq!(events.next_timeout(Duration::ZERO), None);
        drop(events);
        assert!(!listener.tell(&event));
    }
}
