//! A record as it crosses.

use log::kv::{self, Key, Value, VisitSource};
use serde::{Deserialize, Serialize};

/// Key-values that say where a record comes from.
const PROCESS: &str = "process";
const PID: &str = "pid";

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    Record(Record),
    /// Look which level is wanted now.
    Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    level: u8,
    target: String,
    text: String,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    /// Ends with the process and its pid.
    values: Vec<(String, String)>,
}

pub(super) fn level_of(number: u64) -> log::LevelFilter {
    log::LevelFilter::iter()
        .find(|&filter| filter as u64 == number)
        .unwrap_or(log::LevelFilter::Trace)
}

struct Values(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Values {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.as_str().to_owned(), value.to_string()));
        Ok(())
    }
}

impl Record {
    pub(super) fn new(record: &log::Record<'_>, process: &str, pid: u32) -> Record {
        let mut values = Values(Vec::new());
        // Ours never fails.
        let _ = record.key_values().visit(&mut values);
        let mut values = values.0;
        // One that came from a child of this process keeps its origin.
        if !values.iter().any(|(key, _)| key == PROCESS) {
            values.push((PROCESS.to_owned(), process.to_owned()));
            values.push((PID.to_owned(), pid.to_string()));
        }
        Record {
            level: record.level() as u8,
            target: record.target().to_owned(),
            text: record.args().to_string(),
            module: record.module_path().map(str::to_owned),
            file: record.file().map(str::to_owned),
            line: record.line(),
            values,
        }
    }

    /// Hands it to this process's logger, unless that does not want it.
    pub(super) fn log(&self) {
        let Some(level) = level_of(u64::from(self.level)).to_level() else {
            return;
        };
        let logger = log::logger();
        let metadata = log::Metadata::builder()
            .level(level)
            .target(&self.target)
            .build();
        if level > log::max_level() || !logger.enabled(&metadata) {
            return;
        }
        let values: Vec<(&str, &str)> = self
            .values
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
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
