//! Streams of events inside one process: one publisher, any number of readers.
//!
//! Each reader has a bounded buffer of its own. A publisher never blocks: when a buffer is full, it
//! drops the event for that reader and counts it. The reader then finds the number of dropped
//! events at exactly the place where they are missing.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::failpoints;
use crate::ipc::reactor::{self, EventSource, Interest, WakerSet, WakerSlot};
use crate::ipc::waitable::WaitSource;
use crate::sys::threads::{AtomicUsize, Condvar, Mutex};
use crate::sys::{self, lock};

/// How many events a buffer holds before the publisher drops new ones.
pub(crate) const CAPACITY: usize = 1024;

/// An event that a stream can carry.
pub(crate) trait StreamEvent: Clone + Send + 'static {
    /// Returns the event that replaces `count` dropped events in a stream.
    fn missed(count: u64) -> Self;
}

/// The writing end of any number of [`EventStream`]s. Dropping it ends them.
pub(crate) struct EventPublisher<E> {
    /// `None` once the streams have ended.
    buffers: Mutex<Option<Vec<Arc<Buffer<E>>>>>,
    /// The number of buffers, readable without the lock.
    readers: AtomicUsize,
}

struct Buffer<E> {
    state: Mutex<BufferState<E>>,
    arrived: Condvar,
    wakers: Arc<WakerSet>,
}

struct BufferState<E> {
    events: VecDeque<E>,
    /// How many events were dropped after the last one in `events`.
    missed: u64,
    /// No more events follow.
    ended: bool,
    has_reader: bool,
}

impl<E: StreamEvent> EventPublisher<E> {
    /// Returns a stream of the events that are published from now on. After the end, it is empty.
    pub(crate) fn subscribe(&self) -> EventStream<E> {
        let mut buffers = lock(&self.buffers);
        let buffer = Arc::new(Buffer {
            state: Mutex::new(BufferState {
                events: VecDeque::new(),
                missed: 0,
                ended: buffers.is_none(),
                has_reader: true,
            }),
            arrived: Condvar::new(),
            wakers: Arc::default(),
        });
        if let Some(buffers) = &mut *buffers {
            buffers.push(buffer.clone());
            self.readers.store(buffers.len(), Ordering::SeqCst);
        }
        EventStream { buffer }
    }

    /// Returns whether there is a reader, so that an event is worth making.
    pub(crate) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::SeqCst) > 0
    }

    /// Appends `event` to every stream. The caller must hold no lock, because this may run an
    /// executor's waker.
    pub(crate) fn publish(&self, event: &E) {
        if !self.has_readers() {
            return;
        }
        let mut guard = lock(&self.buffers);
        let Some(buffers) = &mut *guard else {
            return;
        };
        buffers.retain(|buffer| buffer.push(event));
        self.readers.store(buffers.len(), Ordering::SeqCst);
        let awaited = buffers.iter().filter(|buffer| buffer.wakers.is_awaited());
        let awaited: Vec<_> = awaited.cloned().collect();
        drop(guard);
        for buffer in awaited {
            buffer.wakers.wake();
        }
    }
}

impl<E> EventPublisher<E> {
    /// Ends all streams: each reader still gets what is in its buffer. The caller must hold no
    /// lock.
    pub(crate) fn end(&self) {
        let buffers = lock(&self.buffers).take();
        for buffer in buffers.unwrap_or_default() {
            let late = failpoints::is_mutated("events.late-end");
            lock(&buffer.state).ended = !late;
            buffer.arrived.notify_all();
            buffer.wakers.wake();
            if late {
                lock(&buffer.state).ended = true;
            }
        }
    }
}

impl<E> Drop for EventPublisher<E> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<E> Default for EventPublisher<E> {
    fn default() -> Self {
        EventPublisher { buffers: Mutex::new(Some(Vec::new())), readers: AtomicUsize::new(0) }
    }
}

impl<E: StreamEvent> Buffer<E> {
    /// Returns `false` once the reader is gone.
    fn push(&self, event: &E) -> bool {
        let mut state = lock(&self.state);
        if !state.has_reader {
            return false;
        }
        if state.events.len() >= CAPACITY {
            state.missed += 1;
            return true;
        }
        // The buffer was full and has room again: this is the place of the dropped events.
        let missed = std::mem::take(&mut state.missed);
        if missed > 0 {
            state.events.push_back(E::missed(missed));
        }
        state.events.push_back(event.clone());
        drop(state);
        self.arrived.notify_all();
        true
    }

    fn next_until(&self, deadline: Option<Instant>) -> Option<E> {
        let mut state = lock(&self.state);
        loop {
            if let Some(event) = state.take() {
                return Some(event);
            }
            if state.ended || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
            state = sys::wait(&self.arrived, state, deadline);
        }
    }
}

impl<E: StreamEvent> BufferState<E> {
    fn take(&mut self) -> Option<E> {
        self.events.pop_front().or_else(|| {
            let missed = std::mem::take(&mut self.missed);
            (missed > 0).then(|| E::missed(missed))
        })
    }
}

impl<E: Send + 'static> EventSource for Buffer<E> {
    fn register(&self) -> io::Result<WakerSlot> {
        self.wakers.register()
    }

    fn is_ready(&self, interest: Interest<'_>) -> bool {
        reactor::check_and_set(interest, || {
            let state = lock(&self.state);
            !state.events.is_empty() || state.missed > 0 || state.ended
        })
    }
}

/// The reading end. Dropping it ends this stream and no other.
pub(crate) struct EventStream<E> {
    buffer: Arc<Buffer<E>>,
}

impl<E: StreamEvent> EventStream<E> {
    /// Returns the next event without waiting; `None` if no event is buffered, and at the end.
    pub(crate) fn try_next(&self) -> Option<E> {
        lock(&self.buffer.state).take()
    }

    /// Returns the next event; blocks for at most `timeout` until there is one. Returns `None`
    /// after the timeout, and at the end.
    pub(crate) fn next_timeout(&self, timeout: Duration) -> Option<E> {
        // `None` if the clock cannot express it, which means no deadline.
        self.buffer.next_until(Instant::now().checked_add(timeout))
    }

    /// Polls for the next event; `None` at the end. `slot` belongs to the task that polls.
    #[cfg(feature = "stream")]
    pub(crate) fn poll_next(
        &self,
        slot: &mut Option<WakerSlot>,
        context: &std::task::Context<'_>,
    ) -> std::task::Poll<Option<E>> {
        if let Some(event) = self.try_next() {
            return Some(event).into();
        }
        let slot = slot.get_or_insert_with(|| {
            self.buffer.register().expect("an event is a state in this process")
        });
        if !self.buffer.is_ready(Some((slot, context.waker()))) {
            return std::task::Poll::Pending;
        }
        // Nobody else takes events out of this buffer, so if there is none, this is the end.
        self.try_next().into()
    }

    /// Ready when [`try_next`](EventStream::try_next) returns an event, and at the end.
    pub(crate) fn wait_source(&self) -> WaitSource {
        WaitSource::new(self.buffer.clone())
    }
}

impl<E: StreamEvent> Iterator for EventStream<E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        self.buffer.next_until(None)
    }
}

impl<E: StreamEvent> std::iter::FusedIterator for EventStream<E> {}

impl<E> Drop for EventStream<E> {
    fn drop(&mut self) {
        let mut state = lock(&self.buffer.state);
        state.has_reader = false;
        let events = std::mem::take(&mut state.events);
        drop(state);
        drop(events);
    }
}

impl<E> fmt::Debug for EventPublisher<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventPublisher").field("readers", &self.readers).finish()
    }
}

impl<E> fmt::Debug for EventStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.buffer.state);
        f.debug_struct("EventStream")
            .field("waiting", &state.events.len())
            .field("ended", &state.ended)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Number {
        Is(usize),
        Missed(u64),
    }

    impl StreamEvent for Number {
        fn missed(count: u64) -> Number {
            Number::Missed(count)
        }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_slow_reader_learns_how_many_events_it_missed_and_where() {
        let publisher = EventPublisher::default();
        let mut slow = publisher.subscribe();
        let mut quick = publisher.subscribe();
        for n in 0..CAPACITY + 3 {
            publisher.publish(&Number::Is(n));
            assert_eq!(quick.next(), Some(Number::Is(n)));
        }
        assert_eq!(slow.try_next(), Some(Number::Is(0)));
        publisher.publish(&Number::Is(9999));
        publisher.end();
        for n in 1..CAPACITY {
            assert_eq!(slow.next(), Some(Number::Is(n)));
        }
        assert_eq!(slow.next(), Some(Number::Missed(3)));
        assert_eq!(slow.next(), Some(Number::Is(9999)));
        assert_eq!(slow.next(), None);
        assert_eq!(quick.next(), Some(Number::Is(9999)));
        assert_eq!(quick.next_timeout(Duration::MAX), None);
    }

    #[test]
    fn a_stream_that_overflowed_and_ended_reports_what_was_missed_last() {
        let publisher = EventPublisher::default();
        let events = publisher.subscribe();
        (0..CAPACITY + 2).for_each(|n| publisher.publish(&Number::Is(n)));
        publisher.end();
        assert_eq!(publisher.subscribe().next(), None);
        drop(publisher);
        assert_eq!(events.last(), Some(Number::Missed(2)));
    }

    #[test]
    fn a_reader_that_is_gone_is_forgotten() {
        let publisher = EventPublisher::default();
        let (gone, _stays) = (publisher.subscribe(), publisher.subscribe());
        drop(gone);
        publisher.publish(&Number::Is(1));
        assert_eq!(publisher.readers.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_source_is_ready_with_an_event_and_at_the_end_and_wakes() {
        let publisher = EventPublisher::default();
        let events = publisher.subscribe();
        let source = events.wait_source().into_inner().unwrap();
        let slot = source.register().unwrap();
        let count = Arc::new(Count::default());
        let waker = count.clone().into();
        assert!(!source.is_ready(Some((&slot, &waker))));
        publisher.publish(&Number::Is(1));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(source.is_ready(Some((&slot, &waker))));
        assert_eq!(events.try_next(), Some(Number::Is(1)));
        assert!(!source.is_ready(Some((&slot, &waker))));
        publisher.end();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert!(source.is_ready(None));
    }
}
