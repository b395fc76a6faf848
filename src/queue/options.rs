//! The options of a queue.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Five deaths in a row are hardly ever a coincidence, and five processes are a bearable price for
/// an item that kills its consumers.
const MAX_DELIVERIES: u32 = 5;
/// Dead letters are kept for a person to read, who will hardly read more than these.
const MAX_DEAD_LETTERS: usize = 1024;

/// The purpose of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum QueueKind {
    /// A queue of the program.
    User,
    /// The mailbox of an actor.
    Mailbox,
    /// A queue that this crate uses itself.
    Internal,
}

#[derive(Clone, Debug)]
pub(in crate::queue) struct QueueOptions {
    pub(in crate::queue) name: Option<Arc<str>>,
    pub(in crate::queue) kind: QueueKind,
    pub(in crate::queue) capacity: Option<usize>,
    pub(in crate::queue) max_deliveries: u32,
    pub(in crate::queue) max_dead_letters: usize,
}

impl Default for QueueOptions {
    fn default() -> QueueOptions {
        QueueOptions {
            name: None,
            kind: QueueKind::User,
            capacity: None,
            max_deliveries: MAX_DELIVERIES,
            max_dead_letters: MAX_DEAD_LETTERS,
        }
    }
}
