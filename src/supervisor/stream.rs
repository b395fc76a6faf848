//! The events of a supervisor as a stream of async code (feature `stream`).

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::ipc::event_stream::EventStream;
use crate::ipc::reactor::WakerSlot;
use crate::supervisor::events::{SupervisorEvent, SupervisorEvents};

impl SupervisorEvents {
    /// Makes a stream of the events, for async code. Needs the feature `stream`, and works with
    /// every executor.
    ///
    /// A separate type, because [`SupervisorEvents`] is an iterator, and a type that is both would
    /// have two methods `next`.
    pub fn into_stream(self) -> SupervisorEventStream {
        SupervisorEventStream { events: self.stream, slot: None, has_ended: false }
    }
}

/// The events of a supervisor as a `futures_core::Stream`, from [`SupervisorEvents::into_stream`].
/// Dropping it ends this stream only. Needs the feature `stream`.
///
/// It ends with the supervisor. A call of `next` whose future is dropped has taken no event.
///
/// ```
/// use futures_util::StreamExt;
/// use offspring::supervisor::{ChildSpec, Supervisor};
///
/// # #[offspring::worker]
/// # fn serve() {
/// #     offspring::current().wait_stopping();
/// # }
/// #[offspring::main]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::builder().start()?;
///     let events = supervisor.events().into_stream();
///     supervisor.start_child(ChildSpec::worker_with("server", |_| serve::new()))?;
///     supervisor.stop();
///     assert_eq!(events.count().await, 2); // started, stopped
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless they are polled"]
pub struct SupervisorEventStream {
    events: EventStream<SupervisorEvent>,
    slot: Option<WakerSlot>,
    has_ended: bool,
}

impl Stream for SupervisorEventStream {
    type Item = SupervisorEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SupervisorEvent>> {
        let stream = self.get_mut();
        let polled = stream.events.poll_next(&mut stream.slot, context);
        stream.has_ended |= matches!(polled, Poll::Ready(None));
        polled
    }
}

impl FusedStream for SupervisorEventStream {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}
