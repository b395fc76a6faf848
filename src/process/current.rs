//! Who this process is.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::sys;

/// What a process knows of itself; the child's comes with its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) depth: u32,
    pub(crate) generation: u32,
    pub(crate) parent: Option<ParentProcess>,
}

impl Identity {
    pub(crate) fn of_main() -> Identity {
        Identity {
            name: "main".to_owned(),
            daemon: false,
            depth: 0,
            generation: 0,
            parent: None,
        }
    }
}

static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();

pub(crate) fn set(identity: Identity) {
    if identity.depth > 0 {
        sys::set_process_name(&identity.name);
    }
    let _ = IDENTITY.set(Arc::new(identity));
}

/// The process that runs this code. Copied facts: `Drop` does nothing.
#[derive(Clone, Debug)]
pub struct CurrentProcess {
    identity: Arc<Identity>,
}

impl CurrentProcess {
    /// Its name: `main` for the program itself, else what [`Builder::name`](crate::Builder::name) gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Whether it was started as a daemon.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.identity.daemon
    }

    /// How many starts lie between the program and it: 0 for the program itself.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.identity.depth
    }

    /// How often it was started again in place of one that had ended, if who starts it counts that:
    /// [`Builder::generation`](crate::Builder::generation). Else 0.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.identity.generation
    }
}

/// The process that started this one. Copied facts: `Drop` does nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParentProcess {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl ParentProcess {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// The process that runs this code.
#[must_use]
pub fn current() -> CurrentProcess {
    CurrentProcess {
        identity: IDENTITY.get().cloned().unwrap_or_else(|| Arc::new(Identity::of_main())),
    }
}

/// The process that started this one; `None` in the program itself.
#[must_use]
pub fn parent() -> Option<ParentProcess> {
    IDENTITY.get().and_then(|identity| identity.parent.clone())
}
