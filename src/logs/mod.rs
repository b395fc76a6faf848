//! Forwards the log records of children to the logger of their parent.
//!
//! A child sends its records through a channel to its parent. The parent maps the channel's memory
//! too, so a record that was sent survives the death of the child. In the parent one thread,
//! started with the first child that needs it, passes the records to the program's logger. When the
//! channel is full, records are dropped and counted. Errors and warnings wait for room instead,
//! unless the logger is stuck.
//!
//! The level that the parent wants is a word in shared memory, so suppressing a record costs one
//! load. The `log` crate does not report changes of `log::max_level`. So the parent updates the
//! word with each record that arrives, and a child that suppresses records asks for an update at
//! most once a second.

mod forwarder;
mod record;
mod source;

use serde::{Deserialize, Serialize};

use crate::channel::Sender;
use crate::diagnostics;
use crate::ipc::wire::{self, EncodedValue, Envelope, Shape};
use crate::process::{LogTarget, NewChild, SpawnHook};
use crate::shared::AtomicU64;

/// Where a child sends its log records.
#[derive(Serialize, Deserialize)]
enum LogSink {
    Parent {
        records: Sender<record::LogMessage>,
        /// The most verbose level that the parent wants.
        level: AtomicU64,
        /// The most verbose level whose records wait for room.
        waits: u64,
        /// How many records all children have sent, and how many they have dropped.
        sent: AtomicU64,
        dropped: AtomicU64,
    },
    Stderr {
        level: u64,
    },
}

inventory::submit! {
    SpawnHook {
        name: "logs",
        prepare,
        receive,
        after_end: forwarder::drain,
    }
}

fn prepare(child: &NewChild<'_>) -> Option<EncodedValue> {
    let level = log::max_level();
    let sink = match child.logs {
        _ if level == log::LevelFilter::Off => return None,
        LogTarget::Off => return None,
        LogTarget::Stderr => LogSink::Stderr { level: level as u64 },
        LogTarget::Parent => sink(child, log::LevelFilter::Warn)?,
        LogTarget::ParentLossless => sink(child, log::LevelFilter::Trace)?,
    };
    let encoded = wire::encode(&sink, Shape::Own);
    encoded.inspect_err(|error| not_forwarded(child, error)).ok()
}

fn sink(child: &NewChild<'_>, waits: log::LevelFilter) -> Option<LogSink> {
    forwarder::sink(waits).inspect_err(|error| not_forwarded(child, error)).ok()
}

fn not_forwarded(child: &NewChild<'_>, error: &dyn std::error::Error) {
    diagnostics::error(
        "offspring::logs",
        format_args!("could not forward the log records of `{}`: {error}", child.name),
    );
}

fn receive(envelope: Envelope) {
    if let Ok(sink) = envelope.decode() {
        source::install(sink);
    }
}
