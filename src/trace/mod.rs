//! Spans and events of the crate `tracing`, across processes (feature `tracing`).
//!
//! ```text
//!   child                                        parent
//!   -----                                        ------
//!   source: a subscriber --- channel ----------> mirror, on a thread: the same spans and events,
//!                                                for the program's own subscriber
//!   attach <-------------- a task, a call ------ capture: the current span of the caller
//! ```
//!
//! The parent's subscriber gets each span and event of a child as its own, from callsites that the
//! mirror makes, with two more fields: the name and pid of the process. So whatever layers it has,
//! such as that of `tracing-opentelemetry`, work for children, which need none.
//!
//! What travels with a task or call is an [`Origin`]: a process and the number that its subscriber
//! gave to the span. A span without a parent in the child becomes a child of that span. The mirror
//! knows the numbers of all its children, so an origin may be a span of any of them.
//!
//! **A span must be open when it becomes a parent.** Records of two processes arrive in any order,
//! and the parent's own code runs ahead of both. So the parent holds a span that it has captured
//! ([`Captured`]), and the mirror holds one that a child has closed, until what the channel held at
//! that time is handled ([`Backlog`](crate::channel::Backlog)), however much has arrived since.

#[cfg(feature = "tracing")]
mod captured;
#[cfg(feature = "tracing")]
mod context;
#[cfg(feature = "tracing")]
mod mirror;
#[cfg(feature = "tracing")]
mod record;
#[cfg(feature = "tracing")]
mod relay;
#[cfg(feature = "tracing")]
mod source;
#[cfg(not(feature = "tracing"))]
mod without;

#[cfg(feature = "tracing")]
pub(crate) use captured::{Captured, capture};
#[cfg(feature = "tracing")]
pub(crate) use context::attach;
#[cfg(feature = "tracing")]
pub(crate) use relay::release_due;
#[cfg(not(feature = "tracing"))]
pub(crate) use without::{Captured, attach, capture, release_due};

/// The bytes of an origin.
pub(crate) const ORIGIN_BYTES: usize = 12;

/// Looks for spans to close when it is dropped. A field after one that keeps a [`Captured`].
#[derive(Debug)]
pub(crate) struct ReleaseDue;

impl Drop for ReleaseDue {
    fn drop(&mut self) {
        release_due();
    }
}
