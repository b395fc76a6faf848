//! The spans and events of children, made again for the subscriber of this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing_core::callsite::{self, Identifier};
use tracing_core::dispatcher::get_default;
use tracing_core::field::{self, Field, FieldSet, Value};
use tracing_core::metadata::Kind;
use tracing_core::span::{Attributes, Id};
use tracing_core::subscriber::Interest;
use tracing_core::{Callsite, Dispatch, Event, LevelFilter, Metadata};

use super::context;
use super::record::{self, FieldValue, Origin, Place, Record, What};
use crate::error::printable;

/// The fields that name the process.
const PROCESS: &str = "process";
const PID: &str = "pid";
/// `tracing` allows 32 fields.
const FIELDS_MAX: usize = 34;
/// A program has fewer callsites; a worker that makes up more is not to fill the memory of its
/// parent, which keeps each for ever.
const CALLSITES_MAX: usize = 1 << 14;

/// The same for the text of a callsite, and for the open spans of one process.
const PLACE_MAX: usize = 4 << 10;
const SPANS_MAX: usize = 1 << 16;

/// How many unwanted spans are looked through for one that is wanted.
const DEPTH_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Mirror {
    callsites: HashMap<Place, &'static Mirrored>,
    /// The spans of children, by pid and number.
    spans: HashMap<u32, HashMap<u64, MirroredSpan>>,
    /// Those that a child has closed. They stay open until what was sent before is handled.
    closed: Vec<Origin>,
}

struct MirroredSpan {
    /// `None` if the subscriber does not want it.
    id: Option<(Id, &'static Mirrored)>,
    /// Takes its place then.
    parent: Option<Origin>,
}

/// A callsite. It lives for ever, as all do.
struct Mirrored {
    metadata: OnceLock<Metadata<'static>>,
    interest: AtomicU8,
    /// Whether its last two fields name the process. A record that a child of the child has sent
    /// has them already.
    names_process: bool,
}

const NEVER: u8 = 0;
const SOMETIMES: u8 = 1;
const ALWAYS: u8 = 2;

impl Callsite for Mirrored {
    fn set_interest(&self, interest: Interest) {
        let interest = match interest {
            interest if interest.is_never() => NEVER,
            interest if interest.is_always() => ALWAYS,
            _ => SOMETIMES,
        };
        self.interest.store(interest, Ordering::SeqCst);
    }

    fn metadata(&self) -> &Metadata<'_> {
        self.metadata.get().expect("it is set before the callsite is registered")
    }
}

fn forever(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

impl Mirrored {
    fn new(place: &Place) -> &'static Mirrored {
        let callsite: &'static Mirrored = Box::leak(Box::new(Mirrored {
            metadata: OnceLock::new(),
            interest: AtomicU8::new(SOMETIMES),
            names_process: !place.fields.iter().any(|name| name == PROCESS),
        }));
        let mut names: Vec<&'static str> = place
            .fields
            .iter()
            .take(FIELDS_MAX - 2)
            .map(|it| forever(&printable::name(it)))
            .collect();
        if callsite.names_process {
            names.extend([PROCESS, PID]);
        }
        let fields = FieldSet::new(Box::leak(names.into_boxed_slice()), Identifier(callsite));
        let kind = if place.is_span { Kind::SPAN } else { Kind::EVENT };
        let metadata = Metadata::new(
            forever(&place.name),
            forever(&place.target),
            record::level_of(place.level),
            place.file.as_deref().map(forever),
            place.line,
            place.module.as_deref().map(forever),
            fields,
            kind,
        );
        let _ = callsite.metadata.set(metadata);
        callsite::register(callsite);
        callsite
    }

    fn data(&'static self) -> &'static Metadata<'static> {
        self.metadata.get().expect("it is set before the callsite is registered")
    }

    fn is_wanted(&'static self, dispatch: &Dispatch) -> bool {
        let metadata = self.data();
        if *metadata.level() > LevelFilter::current() {
            return false;
        }
        match self.interest.load(Ordering::SeqCst) {
            NEVER => false,
            ALWAYS => true,
            _ => dispatch.enabled(metadata),
        }
    }
}

/// Text whose `Debug` is the text.
struct AsItIs(String);

impl fmt::Debug for AsItIs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The values of one span or event, with those that name the process.
fn held(
    callsite: &'static Mirrored,
    values: Vec<(u32, FieldValue)>,
    process: Option<(&str, u32)>,
) -> Vec<(Field, Box<dyn Value>)> {
    let mut fields: Vec<Field> = callsite.data().fields().iter().collect();
    let added =
        if callsite.names_process { fields.split_off(fields.len() - 2) } else { Vec::new() };
    let values = values.into_iter().filter_map(|(index, value)| {
        let field = fields.get(index as usize)?.clone();
        let value: Box<dyn Value> = match value {
            FieldValue::Signed(value) => Box::new(value),
            FieldValue::Unsigned(value) => Box::new(value),
            FieldValue::Float(value) => Box::new(value),
            FieldValue::Bool(value) => Box::new(value),
            FieldValue::Text(value) => Box::new(value),
            FieldValue::Debug(value) => Box::new(field::debug(AsItIs(value))),
        };
        Some((field, value))
    });
    let mut held: Vec<(Field, Box<dyn Value>)> = values.take(FIELDS_MAX - 2).collect();
    if let (Some((process, pid)), [name, number]) = (process, &added[..]) {
        held.push((name.clone(), Box::new(printable::name(process).into_owned())));
        held.push((number.clone(), Box::new(u64::from(pid))));
    }
    held
}

/// Calls `with` with a set of these values.
fn with_values<R>(
    metadata: &'static Metadata<'static>,
    held: &[(Field, Box<dyn Value>)],
    with: impl FnOnce(&field::ValueSet<'_>) -> R,
) -> Option<R> {
    let (first, _) = held.first()?;
    let values: [(&Field, Option<&dyn Value>); FIELDS_MAX] = std::array::from_fn(|index| {
        held.get(index).map_or((first, None), |(field, value)| (field, Some(&**value)))
    });
    Some(with(&metadata.fields().value_set(&values)))
}

impl Mirror {
    pub(super) fn handle(&mut self, record: Record) {
        let dispatch = get_default(Dispatch::clone);
        self.pass_on(&dispatch, &record.process, record.pid, record.what);
    }

    fn pass_on(&mut self, dispatch: &Dispatch, process: &str, pid: u32, what: What) {
        match what {
            What::Event { parent, place, values } => {
                let Some(callsite) = self.callsite(&place) else { return };
                if place.is_span || !callsite.is_wanted(dispatch) {
                    return;
                }
                let (parent, _attached) = self.resolve(parent);
                let held = held(callsite, values, Some((process, pid)));
                with_values(callsite.data(), &held, |values| match parent {
                    Some(parent) => {
                        dispatch.event(&Event::new_child_of(parent, callsite.data(), values));
                    }
                    None => dispatch.event(&Event::new(callsite.data(), values)),
                });
            }
            What::Span { span, parent, place, values } => {
                let Some(callsite) = self.callsite(&place) else { return };
                if self.spans.get(&pid).is_some_and(|spans| spans.len() >= SPANS_MAX) {
                    return;
                }
                let origin = Origin { process: pid, span };
                let mut id = None;
                if place.is_span && callsite.is_wanted(dispatch) {
                    let (parent, _attached) = self.resolve(parent);
                    let held = held(callsite, values, Some((process, pid)));
                    id = with_values(callsite.data(), &held, |values| {
                        let data = callsite.data();
                        let id = dispatch.new_span(&match parent {
                            Some(parent) => Attributes::child_of(parent, data, values),
                            None => Attributes::new(data, values),
                        });
                        (id, callsite)
                    });
                }
                self.close(dispatch, origin);
                self.spans.entry(pid).or_default().insert(span, MirroredSpan { id, parent });
            }
            What::Values { span, values } => {
                let span = self.find(Origin { process: pid, span });
                let Some((id, callsite)) = span.and_then(|span| span.id.as_ref()) else { return };
                let held = held(callsite, values, None);
                with_values(callsite.data(), &held, |values| {
                    dispatch.record(id, &tracing_core::span::Record::new(values));
                });
            }
            What::Close { spans } => {
                let spans = spans.into_iter().map(|span| Origin { process: pid, span });
                self.closed.extend(spans);
            }
            What::UpdateLevel | What::Wake => {}
        }
    }

    fn callsite(&mut self, place: &Place) -> Option<&'static Mirrored> {
        if let Some(callsite) = self.callsites.get(place) {
            return Some(callsite);
        }
        if self.callsites.len() == CALLSITES_MAX || place.length() > PLACE_MAX {
            return None;
        }
        let callsite = Mirrored::new(place);
        self.callsites.insert(place.clone(), callsite);
        Some(callsite)
    }

    fn find(&self, origin: Origin) -> Option<&MirroredSpan> {
        self.spans.get(&origin.process)?.get(&origin.span)
    }

    /// Returns the span of this process that represents an origin. If this process knows none, its
    /// own parent may: a subscriber that sends to the parent passes the origin on.
    fn resolve(&self, mut origin: Option<Origin>) -> (Option<Id>, context::Attached) {
        // A worker may send a circle.
        for _ in 0..DEPTH_MAX {
            let Some(parent) = origin else { break };
            if parent.process == std::process::id() && context::is_held(parent.span) {
                return (Some(Id::from_u64(parent.span)), context::set(None));
            }
            match self.find(parent) {
                Some(MirroredSpan { id: Some((id, _)), .. }) => {
                    return (Some(id.clone()), context::set(None));
                }
                Some(span) => origin = span.parent,
                None => break,
            }
        }
        (None, context::set(origin))
    }

    /// Returns the spans that children have closed since the last call.
    pub(super) fn take_closed(&mut self) -> Vec<Origin> {
        std::mem::take(&mut self.closed)
    }

    /// Closes these spans. Nothing that belongs to them follows.
    pub(super) fn close_all(&mut self, spans: Vec<Origin>) {
        let dispatch = get_default(Dispatch::clone);
        spans.into_iter().for_each(|span| self.close(&dispatch, span));
    }

    /// Closes the spans that processes other than these have left open.
    pub(super) fn close_all_but(&mut self, running: &[u32]) {
        let dispatch = get_default(Dispatch::clone);
        let pids: Vec<u32> =
            self.spans.keys().copied().filter(|pid| !running.contains(pid)).collect();
        let gone = pids.iter().filter_map(|pid| self.spans.remove(pid));
        gone.flat_map(HashMap::into_values).for_each(|span| end(&dispatch, span));
    }

    fn close(&mut self, dispatch: &Dispatch, span: Origin) {
        let spans = self.spans.get_mut(&span.process);
        if let Some(span) = spans.and_then(|spans| spans.remove(&span.span)) {
            end(dispatch, span);
        }
    }
}

fn end(dispatch: &Dispatch, span: MirroredSpan) {
    if let Some((id, _)) = span.id {
        dispatch.try_close(id);
    }
}
