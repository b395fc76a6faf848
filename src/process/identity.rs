//! The identity of this process, and how a copy of its program reaches `init`.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

/// The facts about a process that it knows itself. A child receives it in the first message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) depth: u32,
    pub(crate) generation: u32,
    /// Its place in a pool.
    pub(crate) slot: Option<u32>,
    /// Name and pid.
    pub(crate) parent: Option<(String, u32)>,
}

impl Identity {
    pub(crate) fn of_main() -> Identity {
        Identity {
            name: "main".to_owned(),
            daemon: false,
            depth: 0,
            generation: 0,
            slot: None,
            parent: None,
        }
    }
}

/// How a copy of this program reaches `init`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// `main` calls it.
    Main,
    /// The test with this path calls it, under the standard test harness.
    Test(String),
}

static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
static ENTRY: OnceLock<Entry> = OnceLock::new();

pub(super) fn set(identity: Identity) {
    let _ = IDENTITY.set(Arc::new(identity));
}

/// Returns the identity of this process. A process that never ran `init` is a main program.
pub(super) fn of_process() -> Arc<Identity> {
    IDENTITY.get().cloned().unwrap_or_else(|| Arc::new(Identity::of_main()))
}

/// Returns `false` if this process had an entry already.
pub(super) fn set_entry(entry: Entry) -> bool {
    ENTRY.set(entry).is_ok()
}

/// Returns how a child of this process reaches `init`; `None` if this process never did.
pub(super) fn entry() -> Option<&'static Entry> {
    ENTRY.get()
}

/// Returns whether this process is a test harness itself, not a child that one started.
pub(super) fn is_harness() -> bool {
    matches!(entry(), Some(Entry::Test(_))) && of_process().depth == 0
}
