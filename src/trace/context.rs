//! The span that a task or call comes from, on both sides.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tracing_core::Dispatch;
use tracing_core::dispatcher::get_default;
use tracing_core::span::Id;

use super::ORIGIN_BYTES;
use super::record::Origin;
use crate::sys::lock;

/// A captured span. It stays here, and so may become a parent, until it is closed.
struct Held {
    dispatch: Dispatch,
    id: Id,
    holders: usize,
    /// The number of its last release.
    released: u64,
}

static HELD: Mutex<BTreeMap<u64, Held>> = Mutex::new(BTreeMap::new());
/// How many of them have no holder.
static RELEASED: AtomicUsize = AtomicUsize::new(0);

/// How many releases there were.
static RELEASES: AtomicU64 = AtomicU64::new(0);

/// The spans without a holder at one moment, each with the number of its release.
pub(super) type Released = Vec<(u64, u64)>;

/// Holds the current span of this thread, if there is one, until [`let_go`]. The caller holds no
/// lock: this calls the program's subscriber.
pub(super) fn hold() -> Option<Origin> {
    get_default(|dispatch| {
        let current = dispatch.current_span();
        let id = dispatch.clone_span(current.id()?);
        let span = id.into_u64();
        let mut spans = lock(&HELD);
        let surplus = match spans.get_mut(&span) {
            Some(held) => {
                if held.holders == 0 {
                    RELEASED.fetch_sub(1, Ordering::SeqCst);
                }
                held.holders += 1;
                Some(id)
            }
            None => {
                let dispatch = dispatch.clone();
                spans.insert(span, Held { dispatch, id, holders: 1, released: 0 });
                None
            }
        };
        drop(spans);
        if let Some(id) = surplus {
            dispatch.try_close(id);
        }
        Some(Origin { process: std::process::id(), span })
    })
}

/// Ends one hold. Returns whether it was the span's last.
pub(super) fn let_go(origin: Origin) -> bool {
    let mut spans = lock(&HELD);
    let Some(held) = spans.get_mut(&origin.span) else { return false };
    held.holders -= 1;
    if held.holders > 0 {
        return false;
    }
    held.released = RELEASES.fetch_add(1, Ordering::Relaxed) + 1;
    RELEASED.fetch_add(1, Ordering::SeqCst);
    true
}

/// Returns whether the span of this process is held, so that it may become a parent.
pub(super) fn is_held(span: u64) -> bool {
    lock(&HELD).contains_key(&span)
}

/// Returns whether there are spans without a holder.
#[inline]
pub(super) fn has_released() -> bool {
    RELEASED.load(Ordering::Relaxed) > 0
}

pub(super) fn released() -> Released {
    if RELEASED.load(Ordering::SeqCst) == 0 {
        return Vec::new();
    }
    let spans = lock(&HELD);
    let free = spans.iter().filter(|(_, held)| held.holders == 0);
    free.map(|(&span, held)| (span, held.released)).collect()
}

/// Closes these spans, unless they were captured again. All that children had sent when they were
/// released is handled.
pub(super) fn release(released: &Released) {
    let mut closed = Vec::new();
    let mut spans = lock(&HELD);
    for (span, number) in released {
        let is_free =
            spans.get(span).is_some_and(|held| (held.holders, held.released) == (0, *number));
        if is_free {
            RELEASED.fetch_sub(1, Ordering::SeqCst);
            closed.extend(spans.remove(span));
        }
    }
    drop(spans);
    for Held { dispatch, id, .. } in closed {
        dispatch.try_close(id);
    }
}

thread_local! {
    /// The origin of the task or call that this thread runs.
    static ORIGIN: Cell<Option<Origin>> = const { Cell::new(None) };
}

/// The origin of what this thread runs.
pub(super) fn origin() -> Option<Origin> {
    ORIGIN.try_with(Cell::get).ok().flatten()
}

/// While it lives, spans and events of this thread that have no parent here belong to the origin.
#[derive(Debug)]
pub(crate) struct Attached {
    before: Option<Origin>,
    /// A span of this process itself: the task runs on one of its threads.
    entered: Option<Id>,
}

pub(crate) fn attach(bytes: Option<[u8; ORIGIN_BYTES]>) -> Attached {
    let mut attached = set(bytes.map(|bytes| {
        let (process, span) = bytes.split_at(4);
        Origin {
            process: u32::from_le_bytes(process.try_into().expect("four bytes")),
            span: u64::from_le_bytes(span.try_into().expect("eight bytes")),
        }
    }));
    if let Some(Origin { process, span }) = origin() {
        if process == std::process::id() && is_held(span) {
            let id = Id::from_u64(span);
            get_default(|dispatch| dispatch.enter(&id));
            attached.entered = Some(id);
        }
    }
    attached
}

pub(super) fn set(origin: Option<Origin>) -> Attached {
    let before = ORIGIN.try_with(|current| current.replace(origin)).ok().flatten();
    Attached { before, entered: None }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = ORIGIN.try_with(|current| current.set(self.before));
        if let Some(id) = &self.entered {
            get_default(|dispatch| dispatch.exit(id));
        }
    }
}
