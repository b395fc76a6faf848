//! The subscriber of a child: it sends what it gets to the parent.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64 as LocalAtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing_core::span::{Attributes, Current, Id};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Event, Metadata, Subscriber, dispatcher};

use super::context;
use super::record::{self, Origin, Place, Record, TraceSink, Values, What};
use crate::error::TrySendError;
use crate::process::current;
use crate::sys::lock;

/// How often a child asks for an update of the wanted level.
const ASK_EVERY: Duration = Duration::from_secs(1);

struct Source {
    sink: TraceSink,
    name: String,
    pid: u32,
    next: LocalAtomicU64,
    open: Mutex<HashMap<u64, OpenSpan>>,
    /// Spans whose end found no room in the channel.
    unsent: Mutex<Vec<u64>>,
    asked: Mutex<Instant>,
}

struct OpenSpan {
    references: usize,
    metadata: &'static Metadata<'static>,
}

thread_local! {
    /// The spans that this thread is in, outermost first.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// Set while this thread sends, because sending may emit events as well.
    static SENDING: Cell<bool> = const { Cell::new(false) };
}

/// Installs the subscriber of this process, unless it has one already.
pub(super) fn install(sink: TraceSink) {
    let current = current();
    let source = Source {
        sink,
        name: current.name().to_owned(),
        pid: current.pid(),
        next: LocalAtomicU64::new(1),
        open: Mutex::new(HashMap::new()),
        unsent: Mutex::new(Vec::new()),
        asked: Mutex::new(Instant::now()),
    };
    let _ = dispatcher::set_global_default(Dispatch::new(source));
}

fn innermost() -> Option<u64> {
    ENTERED.try_with(|entered| entered.borrow().last().copied()).ok().flatten()
}

impl Source {
    /// The parent of a span or event of this thread.
    fn parent(&self, explicit: Option<&Id>, is_contextual: bool) -> Option<Origin> {
        let own = |span| Origin { process: self.pid, span };
        match explicit {
            Some(id) => Some(own(id.into_u64())),
            None if is_contextual => innermost().map(own).or_else(context::origin),
            None => None,
        }
    }

    fn send(&self, what: What) {
        if SENDING.try_with(|sending| sending.replace(true)).unwrap_or(true) {
            return;
        }
        let unsent = std::mem::take(&mut *lock(&self.unsent));
        if !unsent.is_empty() {
            self.try_send(What::Close { spans: unsent });
        }
        self.try_send(what);
        let _ = SENDING.try_with(|sending| sending.set(false));
    }

    /// A slow subscriber blocks no child: when the channel is full, records are dropped and counted.
    fn try_send(&self, what: What) {
        let record = Record { process: self.name.clone(), pid: self.pid, what };
        // Counted first: a parent that has handled as many as were counted has handled all. If this
        // process dies in between, the parent only takes the longer way.
        self.sink.sent.fetch_add(1, Ordering::SeqCst);
        let Err(error) = self.sink.records.try_send(record) else { return };
        self.sink.sent.fetch_sub(1, Ordering::SeqCst);
        match error {
            TrySendError::Full(Record { what: What::Close { spans }, .. }) => {
                lock(&self.unsent).extend(spans);
            }
            TrySendError::Full(_) => {
                self.sink.dropped.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    /// Asks the parent to update the wanted level, if the last request was some time ago.
    fn ask(&self) {
        // If another thread holds the lock, that thread asks.
        let Ok(mut asked) = self.asked.try_lock() else { return };
        if asked.elapsed() >= ASK_EVERY {
            *asked = Instant::now();
            drop(asked);
            self.send(What::UpdateLevel);
        }
    }
}

impl Subscriber for Source {
    /// The wanted level may change at any time.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_wanted =
            record::is_wanted(*metadata.level(), self.sink.level.load(Ordering::Relaxed));
        if !is_wanted {
            self.ask();
        }
        is_wanted
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let span = self.next.fetch_add(1, Ordering::Relaxed);
        let metadata = attributes.metadata();
        lock(&self.open).insert(span, OpenSpan { references: 1, metadata });
        let mut values = Values::default();
        attributes.record(&mut values);
        let parent = self.parent(attributes.parent(), attributes.is_contextual());
        self.send(What::Span { span, parent, place: Place::of(metadata), values: values.0 });
        Id::from_u64(span)
    }

    fn record(&self, span: &Id, record: &tracing_core::span::Record<'_>) {
        let mut values = Values::default();
        record.record(&mut values);
        self.send(What::Values { span: span.into_u64(), values: values.0 });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut values = Values::default();
        event.record(&mut values);
        let parent = self.parent(event.parent(), event.is_contextual());
        self.send(What::Event { parent, place: Place::of(event.metadata()), values: values.0 });
    }

    fn enter(&self, span: &Id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            if let Some(place) = entered.iter().rposition(|&id| id == span.into_u64()) {
                entered.remove(place);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(open) = lock(&self.open).get_mut(&span.into_u64()) {
            open.references += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let span = span.into_u64();
        let mut open = lock(&self.open);
        let Some(found) = open.get_mut(&span) else { return false };
        found.references -= 1;
        if found.references > 0 {
            return false;
        }
        open.remove(&span);
        drop(open);
        self.send(What::Close { spans: vec![span] });
        true
    }

    fn current_span(&self) -> Current {
        let found = innermost().and_then(|span| {
            let open = lock(&self.open);
            Some((Id::from_u64(span), open.get(&span)?.metadata))
        });
        found.map_or_else(Current::none, |(id, metadata)| Current::new(id, metadata))
    }
}
