//! Channels as streams and sinks of async code (feature `stream`).

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Receiver, Sender};
use crate::error::{RecvError, SendError};
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::reactor::WakerSlot;
use crate::ipc::unfold::Unfold;

impl<T> Receiver<T> {
    /// Returns a stream of the messages, for async code. Needs the feature `stream`, and works with
    /// every executor. [`into_stream`](Receiver::into_stream) makes one that owns the receiver.
    pub fn stream(&self) -> ReceiverStream<'_, T> {
        ReceiverStream::new(Source::Lent(self))
    }

    /// Makes a stream that owns this receiver, so that it can outlive the caller: for a task, or
    /// the body of a response. See [`stream`](Receiver::stream).
    pub fn into_stream(self) -> ReceiverStream<'static, T> {
        ReceiverStream::new(Source::Own(self))
    }
}

enum Source<'a, T> {
    Lent(&'a Receiver<T>),
    Own(Receiver<T>),
}

/// The messages of a [`Receiver`] as a `futures_core::Stream`, from [`Receiver::stream`] and
/// [`Receiver::into_stream`]. Needs the feature `stream`.
///
/// Dropping it leaves the other messages in the channel; a stream from `into_stream` drops the
/// receiver. It takes a message only when it returns it, so a call of `next` whose future is
/// dropped loses none.
///
/// It ends when every sender is gone and everything was received. A message that does not decode is
/// an `Err`, and so is the lack of descriptors for a message's handles; the stream continues after
/// them. After [`RecvError::Moved`] it ends.
///
/// ```
/// use futures_util::TryStreamExt;
/// use offspring::{Sender, channel};
///
/// #[offspring::worker]
/// fn count(numbers: Sender<u32>) {
///     (1..=3).for_each(|n| numbers.send(n).expect("the main program reads"));
/// }
///
/// #[offspring::main]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (numbers, receiver) = channel()?;
///     let process = count::spawn(numbers)?;
///     let mut received = receiver.into_stream();
///     while let Some(n) = received.try_next().await? {
///         println!("{n}");
///     }
///     process.join_async().await?;
///     Ok(())
/// }
/// ```
#[must_use = "streams do nothing unless they are polled"]
pub struct ReceiverStream<'a, T> {
    source: Source<'a, T>,
    /// Kept between messages, so that the socket need not be registered for each.
    slot: Option<WakerSlot>,
    has_ended: bool,
}

impl<'a, T> ReceiverStream<'a, T> {
    fn new(source: Source<'a, T>) -> ReceiverStream<'a, T> {
        ReceiverStream { source, slot: None, has_ended: false }
    }

    fn receiver(&self) -> &Receiver<T> {
        match &self.source {
            Source::Lent(receiver) => receiver,
            Source::Own(receiver) => receiver,
        }
    }
}

impl<T: DeserializeOwned> ReceiverStream<'_, T> {
    /// Returns a message that has arrived, or the error of the channel.
    fn take(&self) -> Option<Result<T, RecvError>> {
        match self.receiver().recv_raw(&Deadline::now()) {
            Ok(message) => Some(message.decode()),
            Err(WaitEnd::Failed(error)) => Some(Err(error)),
            Err(WaitEnd::Timeout(_)) => None,
        }
    }

    fn poll_take(&mut self, context: &Context<'_>) -> Poll<Result<T, RecvError>> {
        if let Some(taken) = self.take() {
            return Poll::Ready(taken);
        }
        let source = self.receiver().event_source().ok_or(RecvError::Moved)?;
        let slot = match &mut self.slot {
            Some(slot) => slot,
            slot => slot.insert(source.register().map_err(RecvError::Io)?),
        };
        if !source.is_ready(Some((slot, context.waker()))) {
            return Poll::Pending;
        }
        match self.take() {
            Some(taken) => Poll::Ready(taken),
            None => {
                // Another task or thread took the message first.
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<T: DeserializeOwned> Stream for ReceiverStream<'_, T> {
    type Item = Result<T, RecvError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        if stream.has_ended {
            return Poll::Ready(None);
        }
        let taken = ready!(stream.poll_take(context));
        stream.has_ended = matches!(taken, Err(RecvError::Disconnected | RecvError::Moved));
        Poll::Ready(match taken {
            Err(RecvError::Disconnected) => None,
            taken => Some(taken),
        })
    }
}

impl<T: DeserializeOwned> FusedStream for ReceiverStream<'_, T> {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}

impl<T> fmt::Debug for ReceiverStream<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverStream")
            .field("receiver", self.receiver())
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

impl<T> Sender<T> {
    /// Returns a sink that sends, for async code. Needs the feature `stream`, and works with every
    /// executor. The sink holds a sender of its own.
    pub fn sink(&self) -> SenderSink<T> {
        SenderSink { state: Unfold::Idle(self.clone()) }
    }
}

/// A `futures_sink::Sink` that sends to a channel, from [`Sender::sink`]. Needs the feature
/// `stream`.
///
/// Dropping it drops its sender, and with it a message that it has accepted and not sent yet: at
/// most one, while the channel's buffer is full. `flush` and `send` of `futures_util::SinkExt`
/// return when everything has been sent. If their future is dropped, the message stays in the sink,
/// which sends it at the next call. `close` drops the sender after everything has been sent.
///
/// The sink can still be used after an error.
///
/// ```
/// use futures_util::{SinkExt, StreamExt, stream};
/// use offspring::{Receiver, channel};
///
/// #[offspring::worker]
/// fn sum(numbers: Receiver<u64>) -> u64 {
///     numbers.iter().sum()
/// }
///
/// #[offspring::main]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (sender, numbers) = channel()?;
///     let process = sum::spawn(numbers)?;
///     let mut sink = sender.sink();
///     drop(sender);
///     sink.send(1).await?;
///     stream::iter(2..=100).map(Ok).forward(sink).await?; // closes the sink
///     assert_eq!(process.join_async().await?, 5050);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "sinks do nothing unless they are polled"]
pub struct SenderSink<T> {
    state: Unfold<Sender<T>, Result<(), SendError<T>>>,
}

/// No part of it needs to be pinned.
impl<T> Unpin for SenderSink<T> {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Sink<T> for SenderSink<T> {
    type Error = SendError<T>;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Self::Error>> {
        self.state.poll_flush(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: T) -> Result<(), Self::Error> {
        if self.state.is_over() {
            return Err(SendError::Disconnected(message));
        }
        self.state.start(|sender| {
            Box::pin(async move {
                let sent = sender.send_async(message).await;
                (sender, sent)
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
