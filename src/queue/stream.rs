//! Queues as streams and sinks of async code (feature `stream`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{GetError, PutError};
use crate::ipc::unfold::Unfold;
use crate::queue::consumer::{Consumer, JoinableConsumer};
use crate::queue::delivery::Delivery;
use crate::queue::handle::Handle;
use crate::queue::joinable::JoinableQueue;
use crate::queue::producer::{JoinableProducer, Producer};
use crate::queue::queue::Queue;

/// The items of a [`Queue`] as a `futures_core::Stream`, from [`Queue::stream`] and
/// [`Consumer::stream`]. Needs the feature `stream`.
///
/// It holds a handle of its own, with the same role as the handle that made it. Dropping it leaves
/// the remaining items in the queue. It takes an item only when it returns it, so a call of `next`
/// whose future is dropped loses none. A stream that has found the queue empty counts as a waiting
/// consumer, until it is polled again or dropped.
///
/// It ends at the [end](Queue#the-end) of the queue. An item that does not decode is an `Err`, and
/// the stream continues. [`GetError::Disconnected`] is an `Err` as well, and the stream ends after
/// it.
///
/// ```
/// use futures_util::TryStreamExt;
/// use offspring::Queue;
/// use offspring::queue::Producer;
///
/// #[offspring::worker]
/// fn count(upto: u64, numbers: Producer<u64>) {
///     (1..=upto).for_each(|n| numbers.put(n).expect("the main program reads"));
/// }
///
/// #[offspring::main]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (producer, numbers) = Queue::bounded(8)?.split();
///     let process = count::spawn(100, producer)?;
///     let sum = numbers.stream().try_fold(0, async |sum, n| Ok(sum + n)).await?;
///     assert_eq!(sum, 5050);
///     process.join_async().await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless they are polled"]
pub struct QueueStream<T> {
    state: Unfold<Queue<T>, Result<T, GetError>>,
}

/// The deliveries of a [`JoinableQueue`] as a `futures_core::Stream`, from
/// [`JoinableQueue::stream`] and [`JoinableConsumer::stream`]. Needs the feature `stream`.
///
/// It takes and ends like a [`QueueStream`], and dropping it loses no item either. A [`Delivery`]
/// that is dropped without `task_done` returns to the queue, so a pipeline that stops halfway loses
/// no job.
///
/// ```
/// use futures_util::TryStreamExt;
/// use offspring::JoinableQueue;
///
/// #[offspring::worker]
/// fn consume(jobs: JoinableQueue<u64>) -> u64 {
///     let mut deliveries = jobs.stream();
///     pollster::block_on(async {
///         let mut sum = 0;
///         while let Some(job) = deliveries.try_next().await.expect("the jobs decode") {
///             sum += *job;
///             job.task_done();
///         }
///         sum
///     })
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let jobs = JoinableQueue::bounded(8)?;
///     let process = consume::spawn(jobs.clone())?;
///     jobs.put_all(1..=100)?;
///     jobs.join()?;
///     jobs.close()?;
///     assert_eq!(process.join()?, 5050);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless they are polled"]
pub struct JoinableStream<T> {
    state: Unfold<JoinableQueue<T>, Result<Delivery<T>, GetError>>,
}

/// Returns whether a stream ends after this error.
fn is_end(error: &GetError) -> bool {
    matches!(error, GetError::Closed | GetError::Abandoned | GetError::Disconnected)
}

macro_rules! stream {
    ($stream:ident, $queue:ident, $consumer:ident, $item:ty) => {
        impl<T> $queue<T> {
            /// Returns a stream of the items, for async code. Needs the feature `stream`, and works
            /// with every executor. The stream holds a handle of its own.
            pub fn stream(&self) -> $stream<T> {
                $stream { state: Unfold::Idle(self.clone()) }
            }
        }

        impl<T> $consumer<T> {
            #[doc = concat!("Returns a stream of the items, like [`", stringify!($queue), "::stream`].")]
            pub fn stream(&self) -> $stream<T> {
                self.queue.stream()
            }
        }

        /// No part of it needs to be pinned.
        impl<T> Unpin for $stream<T> {}

        impl<T: Serialize + DeserializeOwned + 'static> Stream for $stream<T> {
            type Item = Result<$item, GetError>;

            fn poll_next(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Option<Self::Item>> {
                let stream = self.get_mut();
                // Usually there is an item, and taking it needs no allocation.
                if let Unfold::Idle(queue) = &stream.state {
                    if let Some(got) = queue.handle.get_now() {
                        return Poll::Ready(Some(got.map(|got| queue.receive(got))));
                    }
                }
                stream.state.begin(|queue| {
                    Box::pin(async move {
                        let got = queue.get_async().await;
                        (queue, got)
                    })
                });
                let got = ready!(stream.state.poll(context));
                if let Some(Err(error)) = &got {
                    if is_end(error) {
                        stream.state = Unfold::Over;
                    }
                }
                Poll::Ready(got.filter(|got| {
                    !matches!(got, Err(GetError::Closed | GetError::Abandoned))
                }))
            }
        }

        impl<T: Serialize + DeserializeOwned + 'static> FusedStream for $stream<T> {
            fn is_terminated(&self) -> bool {
                self.state.is_over()
            }
        }
    };
}

stream!(QueueStream, Queue, Consumer, T);
stream!(JoinableStream, JoinableQueue, JoinableConsumer, Delivery<T>);

/// A `futures_sink::Sink` that puts into a queue of either kind, from [`Queue::sink`],
/// [`JoinableQueue::sink`] and their producers. Needs the feature `stream`.
///
/// It holds a handle of its own, with the same role as the handle that made it. Dropping it drops
/// an item that it has accepted and not put yet: at most one, while the queue is full. `flush` and
/// `send` of `futures_util::SinkExt` return when everything has been put. If their future is
/// dropped, the item stays in the sink, which puts it at the next call. `close` drops the handle
/// after everything has been put; it does not close the queue, which may have other producers.
///
/// The sink can still be used after an error.
///
/// ```
/// use futures_util::{SinkExt, StreamExt, stream};
/// use offspring::Queue;
/// use offspring::queue::Consumer;
///
/// #[offspring::worker]
/// fn sum(numbers: Consumer<u64>) -> u64 {
///     numbers.iter().sum()
/// }
///
/// #[offspring::main]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (producer, consumer) = Queue::bounded(4)?.split();
///     let process = sum::spawn(consumer)?;
///     let mut sink = producer.sink();
///     drop(producer);
///     sink.send(1).await?;
///     stream::iter(2..=100).map(Ok).forward(sink).await?; // the last producer goes with it
///     assert_eq!(process.join_async().await?, 5050);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "sinks do nothing unless they are polled"]
pub struct QueueSink<T> {
    state: Unfold<Handle, Result<(), PutError<T>>>,
}

impl<T> QueueSink<T> {
    fn new(handle: &Handle) -> QueueSink<T> {
        QueueSink { state: Unfold::Idle(handle.clone()) }
    }
}

macro_rules! sink {
    ($queue:ident, $producer:ident) => {
        impl<T> $queue<T> {
            /// Returns a sink that puts, for async code. Needs the feature `stream`, and works with
            /// every executor. The sink holds a handle of its own.
            pub fn sink(&self) -> QueueSink<T> {
                QueueSink::new(&self.handle)
            }
        }

        impl<T> $producer<T> {
            #[doc = concat!("Returns a sink that puts, like [`", stringify!($queue), "::sink`].")]
            pub fn sink(&self) -> QueueSink<T> {
                self.queue.sink()
            }
        }
    };
}

sink!(Queue, Producer);
sink!(JoinableQueue, JoinableProducer);

/// No part of it needs to be pinned.
impl<T> Unpin for QueueSink<T> {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Sink<T> for QueueSink<T> {
    type Error = PutError<T>;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Self::Error>> {
        self.state.poll_flush(context)
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), Self::Error> {
        if self.state.is_over() {
            return Err(PutError::Closed(item));
        }
        self.state.start(|handle| {
            Box::pin(async move {
                let put = handle.put_async(item).await;
                (handle, put)
            })
        })
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Self::Error>> {
        self.state.poll_flush(context)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Self::Error>> {
        self.state.poll_close(context)
    }
}
