//! The messages from a child to the mirror.

use serde::{Deserialize, Serialize};
use tracing_core::field::{Field, Visit};
use tracing_core::{Level, LevelFilter, Metadata};

use crate::channel::Sender;
use crate::error::printable;
use crate::shared::AtomicU64;

/// Where a child sends its spans and events.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct TraceSink {
    pub(super) records: Sender<Record>,
    /// The most verbose level that the parent wants.
    pub(super) level: AtomicU64,
    /// How many records all children have sent or begun to send, and how many they have dropped.
    pub(super) sent: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// A span of some process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) process: u32,
    /// The number that the subscriber of that process gave to it.
    pub(super) span: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) process: String,
    pub(super) pid: u32,
    pub(super) what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum What {
    Span {
        span: u64,
        parent: Option<Origin>,
        place: Place,
        values: Vec<(u32, FieldValue)>,
    },
    Values {
        span: u64,
        values: Vec<(u32, FieldValue)>,
    },
    Close {
        spans: Vec<u64>,
    },
    Event {
        parent: Option<Origin>,
        place: Place,
        values: Vec<(u32, FieldValue)>,
    },
    /// Asks the parent to update the wanted level.
    UpdateLevel,
    /// From the parent itself, to its thread: there is something to do.
    Wake,
}

/// The callsite of a span or event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) is_span: bool,
    pub(super) level: u8,
    #[serde(deserialize_with = "printable::deserialize_name")]
    pub(super) name: String,
    #[serde(deserialize_with = "printable::deserialize_name")]
    pub(super) target: String,
    #[serde(deserialize_with = "printable::deserialize_optional")]
    pub(super) module: Option<String>,
    #[serde(deserialize_with = "printable::deserialize_optional")]
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) fields: Vec<String>,
}

impl Place {
    /// Returns how many bytes of text it has.
    pub(super) fn length(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let fields: usize = self.fields.iter().map(String::len).sum();
        self.name.len()
            + self.target.len()
            + optional(&self.module)
            + optional(&self.file)
            + fields
            + self.fields.len()
    }

    pub(super) fn of(metadata: &Metadata<'_>) -> Place {
        Place {
            is_span: metadata.is_span(),
            level: number_of(*metadata.level()),
            name: metadata.name().to_owned(),
            target: metadata.target().to_owned(),
            module: metadata.module_path().map(str::to_owned),
            file: metadata.file().map(str::to_owned),
            line: metadata.line(),
            fields: metadata.fields().iter().map(|field| field.name().to_owned()).collect(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum FieldValue {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
    Text(String),
    /// Text that is shown as it is, without quotes.
    Debug(String),
}

/// Collects the values of fields, each with the index of its field.
#[derive(Default)]
pub(super) struct Values(pub(super) Vec<(u32, FieldValue)>);

impl Values {
    fn add(&mut self, field: &Field, value: FieldValue) {
        self.0.push((field.index() as u32, value));
    }
}

impl Visit for Values {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, FieldValue::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, FieldValue::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, FieldValue::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, FieldValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, FieldValue::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, FieldValue::Debug(format!("{value:?}")));
    }
}

/// 1 for errors, 5 for traces.
fn number_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

pub(super) fn level_of(number: u8) -> Level {
    match number {
        1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    }
}

/// The most verbose level that this process wants; 0 for none.
pub(super) fn wanted() -> u64 {
    LevelFilter::current().into_level().map_or(0, |level| u64::from(number_of(level)))
}

pub(super) fn is_wanted(level: Level, wanted: u64) -> bool {
    u64::from(number_of(level)) <= wanted
}
