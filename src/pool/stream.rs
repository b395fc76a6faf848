//! The events of a pool, and the outputs of a map, as streams of async code (feature `stream`).

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};

use crate::error::TaskError;
use crate::ipc::event_stream::EventStream;
use crate::ipc::reactor::WakerSlot;
use crate::pool::events::{PoolEvent, PoolEvents};
use crate::pool::map::{Map, MapState, MapUnordered};
use crate::process::ProcessWorker;

impl PoolEvents {
    /// Makes a stream of the events, for async code. Needs the feature `stream`, and works with
    /// every executor.
    ///
    /// A separate type, because [`PoolEvents`] is an iterator, and a type that is both would have
    /// two methods `next`.
    pub fn into_stream(self) -> PoolEventStream {
        PoolEventStream { events: self.stream, slot: None, has_ended: false }
    }
}

/// The events of a pool as a `futures_core::Stream`, from [`PoolEvents::into_stream`]. Dropping it
/// ends this stream only. Needs the feature `stream`.
///
/// It ends with the pool. A call of `next` whose future is dropped has taken no event.
///
/// ```
/// use futures_util::StreamExt;
/// use offspring::Pool;
/// use offspring::pool::PoolEvent;
///
/// #[offspring::worker]
/// fn crash() {
///     std::process::abort();
/// }
///
/// #[offspring::main]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(1)?;
///     let mut events = pool.events().into_stream();
///     assert!(pool.submit(crash::new())?.await.is_err());
///     while let Some(event) = events.next().await {
///         if let PoolEvent::WorkerEnded { worker, reason, .. } = event {
///             println!("{worker} {reason}");
///             break;
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless they are polled"]
pub struct PoolEventStream {
    events: EventStream<PoolEvent>,
    slot: Option<WakerSlot>,
    has_ended: bool,
}

impl Stream for PoolEventStream {
    type Item = PoolEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PoolEvent>> {
        let stream = self.get_mut();
        let polled = stream.events.poll_next(&mut stream.slot, context);
        stream.has_ended |= matches!(polled, Poll::Ready(None));
        polled
    }
}

impl FusedStream for PoolEventStream {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}

macro_rules! into_stream {
    ($map:ident) => {
        impl<'p, I, F, W> $map<'p, I, F, W> {
            /// Makes a stream of the map, for async code. Needs the feature `stream`, and works
            /// with every executor.
            ///
            /// A separate type, because a map is an iterator, and a type that is both would have
            /// two methods `next`.
            pub fn into_stream(self) -> MapStream<'p, I, F, W> {
                MapStream { state: self.state, slot: None, has_ended: false }
            }
        }
    };
}

into_stream!(Map);
into_stream!(MapUnordered);

/// The outputs of a map as a `futures_core::Stream`, from [`Map::into_stream`] and
/// [`MapUnordered::into_stream`]. Needs the feature `stream`.
///
/// Dropping it takes no more inputs. Tasks that have not begun never will; those that are running
/// end by themselves, and their outputs are discarded. A call of `next` whose future is dropped
/// loses nothing: the next call returns the output that it waited for.
///
/// The outputs, their order and the [window](Map::window) are those of the map. Inputs are taken on
/// the thread that polls, so an iterator of inputs that blocks holds up that thread. While the
/// stream is not polled, submitted tasks run, but no more are submitted.
///
/// ```
/// use futures_util::TryStreamExt;
/// use offspring::Pool;
///
/// #[offspring::worker]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[offspring::main]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = Pool::new(2)?;
///     let mut squares = pool.map(1..=3, square::new).into_stream();
///     let mut sum = 0;
///     while let Some(square) = squares.try_next().await? {
///         sum += square;
///     }
///     assert_eq!(sum, 14);
///     Ok(())
/// }
/// ```
#[must_use = "streams do nothing unless they are polled"]
pub struct MapStream<'p, I, F, W> {
    state: MapState<'p, I, F, W>,
    slot: Option<WakerSlot>,
    has_ended: bool,
}

impl<I, F, W> MapStream<'_, I, F, W> {
    /// Ends the map: tasks that have not begun never will, and the processes of those that are
    /// running are killed. (Dropping the stream lets those end by themselves.)
    pub fn cancel(mut self) {
        self.state.cancel(true);
    }
}

/// No part of it needs to be pinned.
impl<I, F, W> Unpin for MapStream<'_, I, F, W> {}

impl<I, F, W> Stream for MapStream<'_, I, F, W>
where
    I: Iterator,
    F: FnMut(I::Item) -> W,
    W: ProcessWorker,
{
    type Item = Result<W::Output, TaskError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        let next = ready!(stream.state.poll_next(&mut stream.slot, context));
        stream.has_ended |= next.is_none();
        Poll::Ready(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.state.size_hint()
    }
}

impl<I, F, W> FusedStream for MapStream<'_, I, F, W>
where
    I: Iterator,
    F: FnMut(I::Item) -> W,
    W: ProcessWorker,
{
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}

impl<I, F, W> fmt::Debug for MapStream<'_, I, F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.debug(&mut f.debug_struct("MapStream"))
    }
}
