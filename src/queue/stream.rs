//! Queues as streams and sinks of async code (feature `stream`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{GetError, PutError};
use crate::ipc::turn::Turn;
use crate::queue::consumer::{Consumer, JoinableConsumer};
use crate::queue::delivery::Delivery;
use crate::queue::handle::Handle;
use crate::queue::joinable::JoinableQueue;
use crate::queue::producer::{JoinableProducer, Producer};
use crate::queue::queue::Queue;

/// The items of a [`Queue`] as a `futures_core::Stream`, from [`Queue::stream`] and
/// [`Consumer::stream`]. Needs the feature `stream`.
///
/// It holds a handle of its own, with the role of the one that it was made of. Dropping it leaves the
/// remaining items in the queue. It takes an item only when it returns it, so a call of `next` whose
/// future is dropped loses none. A stream that has found the queue empty counts as a consumer that
/// waits, until it is polled again or dropped.
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
    turn: Turn<Queue<T>, Result<T, GetError>>,
}

/// The deliveries of a [`JoinableQueue`] as a `futures_core::Stream`, from
/// [`JoinableQueue::stream`] and [`JoinableConsumer::stream`]. Needs the feature `stream`.
///
/// It takes and ends like a [`QueueStream`], and dropping it loses as little. A [`Delivery`] that is
/// dropped without `task_done` returns to the queue, so a pipeline that stops in the middle loses no
/// job.
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
    turn: Turn<JoinableQueue<T>, Result<Delivery<T>, GetError>>,
}

/// Returns whether it is the last thing that a stream returns.
fn is_end(error: &GetError) -> bool {
    matches!(error, GetError::Closed | GetError::Abandoned | GetError::Disconnected)
}

macro_rules! stream {
    ($stream:ident, $queue:ident, $consumer:ident, $item:ty) => {
        impl<T> $queue<T> {
            /// Returns a stream of the items, for async code. Needs the feature `stream`, and works
            /// with every executor. The stream holds a handle of its own.
            pub fn stream(&self) -> $stream<T> {
                $stream { turn: Turn::Idle(self.clone()) }
            }
        }

        impl<T> $consumer<T> {
            #[doc = concat!("Returns a stream of the items, like [`", stringify!($queue), "::stream`].")]
            pub fn stream(&self) -> $stream<T> {
                self.queue.stream()
            }
        }

        /// Nothing in it is pinned.
        impl<T> Unpin for $stream<T> {}

        impl<T: Serialize + DeserializeOwned + 'static> Stream for $stream<T> {
            type Item = Result<$item, GetError>;

            fn poll_next(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Option<Self::Item>> {
                let stream = self.get_mut();
                // Usually there is an item, which takes no allocation.
                if let Turn::Idle(queue) = &stream.turn {
                    if let Some(got) = queue.handle.get_now() {
                        return Poll::Ready(Some(got.map(|got| queue.receive(got))));
                    }
                }
                stream.turn.begin(|queue| {
                    Box::pin(async move {
                        let got = queue.get_async().await;
                        (queue, got)
                    })
                });
                let got = ready!(stream.turn.poll(context));
                if let Some(Err(error)) = &got {
                    if is_end(error) {
                        stream.turn = Turn::Over;
                    }
                }
                Poll::Ready(got.filter(|got| {
                    !matches!(got, Err(GetError::Closed | GetError::Abandoned))
                }))
            }
        }

        impl<T: Serialize + DeserializeOwned + 'static> FusedStream for $stream<T> {
            fn is_terminated(&self) -> bool {
                self.turn.is_over()
            }
        }
    };
}

stream!(QueueStream, Queue, Consumer, T);
stream!(JoinableStream, JoinableQueue, JoinableConsumer, Delivery<T>);

/// A `futures_sink::Sink` that puts into a queue of either kind, from [`Queue::sink`],
/// [`JoinableQueue::sink`] and their producers. Needs the feature `stream`.
///
/// It holds a handle of its own, with the role of the one that it was made of. Dropping it drops an
/// item that it has accepted and not put yet: at most one, while the queue is full. `flush` and
/// `send` of `futures_util::SinkExt` return when everything is put, and if their future is dropped,
/// the item stays in the sink, which puts it with the next call. `close` drops the handle, after
/// everything is put; it does not close the queue, which may have other producers.
///
/// After an error the sink can be used further.
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
    turn: Turn<Handle, Result<(), PutError<T>>>,
}

impl<T> QueueSink<T> {
    fn new(handle: &Handle) -> QueueSink<T> {
        QueueSink { turn: Turn::Idle(handle.clone()) }
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

/// Nothing in it is pinned.
impl<T> Unpin for QueueSink<T> {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Sink<T> for QueueSink<T> {
    type Error = PutError<T>;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Self::Error>> {
        self.turn.poll_flush(context)
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), Self::Error> {
        if self.turn.is_over() {
            return Err(PutError::Closed(item));
        }
        self.turn.start(|handle| {
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
        self.turn.poll_flush(context)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Self::Error>> {
        self.turn.poll_close(context)
    }
}
