//! A log record as it travels to the parent.

use std::borrow::Cow;

use log::kv::{self, Key, Value, VisitSource};
use serde::{Deserialize, Serialize};

use crate::error::printable;

/// The keys under which a record names its origin.
const PROCESS: &str = "process";
const PID: &str = "pid";

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum LogMessage {
    Record(LogRecord),
    /// Asks the parent to update the wanted level.
    UpdateLevel,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LogRecord {
    level: u8,
    #[serde(deserialize_with = "printable::deserialize_name")]
    target: String,
    text: String,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    /// The last two entries name the process and its pid.
    values: Vec<(String, String)>,
}

pub(super) fn level_of(number: u64) -> log::LevelFilter {
    log::LevelFilter::iter()
        .find(|&filter| filter as u64 == number)
        .unwrap_or(log::LevelFilter::Trace)
}

struct KeyValues(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for KeyValues {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.as_str().to_owned(), value.to_string()));
        Ok(())
    }
}

impl LogRecord {
    pub(super) fn new(record: &log::Record<'_>, process: &str, pid: u32) -> LogRecord {
        let mut values = KeyValues(Vec::new());
        // `visit_pair` never fails.
        let _ = record.key_values().visit(&mut values);
        let mut values = values.0;
        // A record that a child of this process sent here already has an origin, and keeps it.
        if !values.iter().any(|(key, _)| key == PROCESS) {
            values.push((PROCESS.to_owned(), process.to_owned()));
            values.push((PID.to_owned(), pid.to_string()));
        }
        LogRecord {
            level: record.level() as u8,
            target: record.target().to_owned(),
            text: record.args().to_string(),
            module: record.module_path().map(str::to_owned),
            file: record.file().map(str::to_owned),
            line: record.line(),
            values,
        }
    }

    /// Passes the record to this process's logger, if its level is enabled.
    pub(super) fn log(&self) {
        let Some(level) = level_of(u64::from(self.level)).to_level() else {
            return;
        };
        let logger = log::logger();
        let metadata = log::Metadata::builder().level(level).target(&self.target).build();
        if level > log::max_level() || !logger.enabled(&metadata) {
            return;
        }
        // The child chose the text, like all of its output. This crate chose the name of the
        // process.
        let values = self.values.iter().map(|(key, value)| match key.as_str() {
            PROCESS => (key, printable::name(value)),
            _ => (key, Cow::Borrowed(value.as_str())),
        });
        let values: Vec<(&String, Cow<'_, str>)> = values.collect();
        let values: Vec<(&str, &str)> =
            values.iter().map(|(key, value)| (key.as_str(), &**value)).collect();
        logger.log(
            &log::Record::builder()
                .metadata(metadata)
                .args(format_args!("{}", self.text))
                .module_path(self.module.as_deref())
                .file(self.file.as_deref())
                .line(self.line)
                .key_values(&values)
                .build(),
        );
    }
}
