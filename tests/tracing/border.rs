//! Spans and events of children in the parent's subscriber: a registry with the layer of
//! `tracing-opentelemetry`, whose exporter is memory, and one that keeps the events.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use offspring::pool::TaskError;
use offspring::process::Backend;
use offspring::sync::Event as SharedEvent;
use offspring::{Pool, Receiver, channel};
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// An event: its level, its target, its fields, and the names of the spans around it, innermost
/// first.
#[derive(Clone, Debug)]
struct Seen {
    level: Level,
    target: String,
    fields: BTreeMap<String, String>,
    spans: Vec<&'static str>,
}

static EVENTS: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

struct Keep;

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope(event);
        EVENTS.lock().unwrap().push(Seen {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            fields: fields.0,
            spans: scope.into_iter().flatten().map(|span| span.name()).collect(),
        });
    }
}

/// Installs the subscriber of this program, once.
fn exporter() -> &'static InMemorySpanExporter {
    static EXPORTER: OnceLock<InMemorySpanExporter> = OnceLock::new();
    EXPORTER.get_or_init(|| {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber =
            tracing_subscriber::registry().with(LevelFilter::INFO).with(layer).with(Keep);
        tracing::subscriber::set_global_default(subscriber).expect("there is none yet");
        exporter
    })
}

/// Waits for what no call waits for: the mirror is a thread.
fn eventually<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(50);
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within 50 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The finished spans of this name, once there are as many.
fn spans(name: &str, count: usize) -> Vec<SpanData> {
    eventually(name, || {
        let spans = exporter().get_finished_spans().unwrap();
        let named: Vec<_> = spans.into_iter().filter(|span| span.name == name).collect();
        (named.len() >= count).then_some(named)
    })
}

fn events_with(message: &str) -> Vec<Seen> {
    let events = EVENTS.lock().unwrap();
    let has = |seen: &&Seen| seen.fields.get("message").is_some_and(|text| text == message);
    events.iter().filter(has).cloned().collect()
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key.as_str() == key);
    found.map(|pair| pair.value.to_string()).unwrap_or_default()
}

#[offspring::worker]
fn work(n: u64) -> u64 {
    let span = tracing::info_span!("work", n, result = tracing::field::Empty);
    let _in = span.enter();
    tracing::info!(target: "the::work", n, text = "seven", flag = true, "works on it");
    tracing::debug!("is not wanted");
    span.record("result", n * n);
    n * n
}

#[offspring::test(timeout = "120s")]
fn a_trace_crosses_into_the_processes_of_a_pool_and_back() {
    exporter();
    let pool = Pool::builder().workers(1).name("tracers").build().unwrap();
    let request = tracing::info_span!("request");
    request.in_scope(|| assert_eq!(pool.run(work::new(3)).unwrap(), 9));
    // Without a span, it begins a trace of its own.
    assert_eq!(pool.run(work::new(4)).unwrap(), 16);
    drop(request);
    let batch = tracing::info_span!("batch");
    let outputs = batch.in_scope(|| pool.map(5..8, work::new));
    drop(batch);
    assert_eq!(outputs.map(Result::unwrap).sum::<u64>(), 25 + 36 + 49);

    let (request, batch) = (spans("request", 1).remove(0), spans("batch", 1).remove(0));
    let works = spans("work", 5);
    assert_eq!(works.len(), 5);
    for span in works {
        let n = attribute(&span, "n");
        let parent = match n.as_str() {
            "3" => Some(&request),
            "4" => None,
            _ => Some(&batch),
        };
        let id = parent.map_or(SpanId::INVALID, |parent| parent.span_context.span_id());
        assert_eq!(span.parent_span_id, id, "{n}");
        if let Some(parent) = parent {
            assert_eq!(span.span_context.trace_id(), parent.span_context.trace_id(), "{n}");
        }
        assert_eq!(attribute(&span, "process"), "tracers-0");
        assert_eq!(attribute(&span, "pid"), pool.pids()[0].to_string());
        let n: u64 = n.parse().unwrap();
        assert_eq!(attribute(&span, "result"), (n * n).to_string());
        // The event of the layer.
        assert_eq!(span.events.len(), 1);
    }
    let events = events_with("works on it");
    assert_eq!(events.len(), 5);
    let first = &events[0];
    assert_eq!((first.level, first.target.as_str()), (Level::INFO, "the::work"));
    assert_eq!(first.spans, ["work", "request"]);
    let field = |name: &str| first.fields[name].as_str();
    assert_eq!([field("n"), field("text"), field("flag")], ["3", "\"seven\"", "true"]);
    assert_eq!(field("process"), "\"tracers-0\"");
    assert!(events_with("is not wanted").is_empty());
}

#[offspring::worker]
fn nested() {
    let outer = tracing::info_span!("outer");
    let _outer = outer.enter();
    // Of no interest to the parent, so the inner one is a child of the outer one.
    let between = tracing::debug_span!("between");
    let _between = between.enter();
    tracing::info_span!("inner").in_scope(|| tracing::warn!("deep"));
}

#[offspring::test(timeout = "120s")]
fn what_a_process_has_emitted_is_there_when_it_is_joined() {
    exporter();
    nested::spawn().unwrap().join().unwrap();
    let events = events_with("deep");
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].level, &events[0].spans[..]), (Level::WARN, &["inner", "outer"][..]));
    let (outer, inner) = (spans("outer", 1).remove(0), spans("inner", 1).remove(0));
    assert_eq!(inner.parent_span_id, outer.span_context.span_id());
}

#[offspring::worker]
fn die(begun: offspring::Sender<()>) {
    let span = tracing::info_span!("doomed");
    let _in = span.enter();
    begun.send(()).unwrap();
    std::process::abort();
}

#[offspring::test(timeout = "120s")]
fn the_spans_of_a_process_that_dies_end_with_it() {
    exporter();
    let pool = Pool::new(1).unwrap();
    let (begun, _receiver) = channel().unwrap();
    let died = tracing::info_span!("killer").in_scope(|| pool.run(die::new(begun)));
    assert!(matches!(died, Err(TaskError::Died { .. })), "{died:?}");
    let (killer, doomed) = (spans("killer", 1).remove(0), spans("doomed", 1).remove(0));
    assert_eq!(doomed.parent_span_id, killer.span_context.span_id());
}

#[offspring::worker]
fn large(bytes: Vec<u8>, more: Receiver<u64>) -> u64 {
    tracing::info_span!("large").in_scope(|| bytes.len() as u64 + more.recv().unwrap())
}

#[offspring::worker]
fn lengthy(bytes: Vec<u8>) -> u64 {
    tracing::info_span!("lengthy").in_scope(|| bytes.len() as u64)
}

#[offspring::test(timeout = "120s")]
fn values_of_every_size_and_with_handles_carry_the_span() {
    exporter();
    let pool = Pool::new(1).unwrap();
    let carrier = tracing::info_span!("carrier");
    let _in = carrier.enter();
    let (sender, receiver) = channel().unwrap();
    sender.send(1).unwrap();
    assert_eq!(pool.run(large::new(vec![7; 100], receiver)).unwrap(), 101);
    // Around the longest value that fits into an entry of a ring, with and without the span.
    let lengths = (32_700..32_800).step_by(4).chain([1 << 20]);
    let count = lengths.clone().count();
    for length in lengths {
        assert_eq!(pool.run(lengthy::new(vec![7; length])).unwrap(), length as u64);
    }
    drop(_in);
    drop(carrier);
    let carrier = spans("carrier", 1).remove(0);
    let id = carrier.span_context.span_id();
    eventually("all tasks", || {
        let spans = exporter().get_finished_spans().unwrap();
        (spans.iter().filter(|span| span.parent_span_id == id).count() == count + 1).then_some(())
    });
}

#[offspring::worker]
fn burst(upto: u64) {
    for n in 0..upto {
        tracing::info_span!("burst", n).in_scope(|| tracing::info!("one of many"));
    }
}

#[offspring::test(timeout = "120s")]
fn a_burst_that_overflows_blocks_nobody_and_leaves_no_span_open() {
    exporter();
    let pool = Pool::new(2).unwrap();
    let source = tracing::info_span!("source");
    source.in_scope(|| pool.map([1_000, 1_000], burst::new).for_each(|output| output.unwrap()));
    drop(source);
    drop(pool);
    // It ends only when none of those that were made in it is held any more.
    let source = spans("source", 1).remove(0);
    let bursts = spans("burst", 1);
    assert!(bursts.iter().all(|span| span.parent_span_id == source.span_context.span_id()));
}

#[offspring::worker]
fn flood(begun: offspring::Sender<()>, end: SharedEvent) {
    begun.send(()).unwrap();
    while !end.is_set() {
        tracing::info!("flood");
    }
}

#[offspring::worker]
fn beside() {
    tracing::info_span!("beside").in_scope(|| ());
}

#[offspring::test(timeout = "120s")]
fn a_span_ends_while_others_flood_the_channel() {
    exporter();
    let (begun, has_begun) = channel().unwrap();
    let end = SharedEvent::new().unwrap();
    let flood = || flood::spawn(begun.clone(), end.clone()).unwrap();
    let floods = [flood(), flood()];
    floods.iter().for_each(|_| has_begun.recv().unwrap());
    let pool = Pool::new(1).unwrap();
    let above = tracing::info_span!("above");
    // The record of the span may be dropped, as any record in a flood.
    eventually("a span beside the flood", || {
        above.in_scope(|| pool.run(beside::new())).unwrap();
        let ended = exporter().get_finished_spans().unwrap();
        ended.into_iter().any(|span| span.name == "beside").then_some(())
    });
    drop(above);
    spans("above", 1);
    end.set();
    floods.into_iter().for_each(|flood| flood.join().unwrap());
}

struct Relay {
    next: Option<RelayHandle>,
}

#[offspring::actor]
impl Relay {
    fn start(next: Option<RelayHandle>) -> Self {
        Relay { next }
    }

    pub fn depth(&mut self) -> u64 {
        let span = tracing::info_span!("relayed");
        let _in = span.enter();
        self.next.as_ref().map_or(0, |next| 1 + next.depth().unwrap())
    }
}

#[offspring::test(timeout = "120s")]
fn a_call_belongs_to_the_span_of_its_caller_through_a_chain_of_actors() {
    exporter();
    let last = Relay::spawn(None).unwrap();
    let first = Relay::spawn(Some(last.clone())).unwrap();
    let caller = tracing::info_span!("caller");
    assert_eq!(caller.in_scope(|| first.depth().unwrap()), 1);
    drop(caller);
    let caller = spans("caller", 1).remove(0);
    let relayed = spans("relayed", 2);
    let below = |parent: &SpanData| {
        let id = parent.span_context.span_id();
        relayed.iter().find(|span| span.parent_span_id == id).expect("it has a child").clone()
    };
    let second = below(&below(&caller));
    assert_eq!(second.span_context.trace_id(), caller.span_context.trace_id());
}

#[offspring::test(timeout = "120s")]
fn a_task_on_a_thread_belongs_to_its_span_as_well() {
    exporter();
    let builder = Pool::builder().workers(1);
    let pool = builder.process(|_, process| process.backend(Backend::Inline)).build().unwrap();
    let inline = tracing::info_span!("inline");
    inline.in_scope(|| assert_eq!(pool.run(lengthy::new(vec![1; 3])).unwrap(), 3));
    drop(inline);
    let inline = spans("inline", 1).remove(0);
    let id = inline.span_context.span_id();
    eventually("its task", || {
        let spans = exporter().get_finished_spans().unwrap();
        spans.into_iter().find(|span| span.name == "lengthy" && span.parent_span_id == id)
    });
}
