//! Records of the `log` crate cross to the parent's logger.
//!
//! A child logs into a channel to its parent, whose ring outlives it: what `log` returned from is not lost with
//! the process. In the parent one thread, started with the first child that needs it, hands the records to the
//! program's own logger. Nobody waits for a slow logger: when the ring is full, records are dropped and counted.
//!
//! Which level is wanted is a word in shared memory. Nothing tells when a program changes `log::max_level`, so
//! the parent looks at each record that comes; and a child that suppresses records asks, at most once a second.

mod forwarder;
mod record;
mod source;

use serde::{Deserialize, Serialize};

use crate::channel::Sender;
use crate::ipc::wire::{self, EncodedValue, Envelope};
use crate::process::{Companion, Heir, LogTarget};
use crate::shared::AtomicU64;

/// What a child needs to log.
#[derive(Serialize, Deserialize)]
enum Outlet {
    Parent {
        records: Sender<record::Message>,
        /// The highest level that is wanted.
        level: AtomicU64,
        /// How many records all children have sent, and how many found no room.
        sent: AtomicU64,
        dropped: AtomicU64,
    },
    Stderr {
        level: u64,
    },
}

inventory::submit! {
    Companion {
        name: "logs",
        prepare,
        receive,
        settle: forwarder::settle,
    }
}

fn prepare(heir: &Heir<'_>) -> Option<EncodedValue> {
    let level = log::max_level();
    let outlet = match heir.logs {
        _ if level == log::LevelFilter::Off => return None,
        LogTarget::Off => return None,
        LogTarget::Stderr => Outlet::Stderr { level: level as u64 },
        LogTarget::Parent => forwarder::outlet()
            .inspect_err(|error| log::error!(target: "offspring::logs", "`{}` starts without a logger: {error}", heir.name))
            .ok()?,
    };
    wire::encode(&outlet).ok()
}

fn receive(packet: Envelope) {
    if let Ok(outlet) = packet.decode() {
        source::install(outlet);
    }
}
