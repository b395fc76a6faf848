//! Why a hub refuses what a client asks for.

use serde::{Deserialize, Serialize};

/// The most objects that one client process may attach: each costs the owner's process a mapping.
pub(in crate::ipc::hub) const ATTACHMENTS_MAX: usize = 4096;

/// The reason why a hub does not attach an object, or does not open a session. Whatever the client
/// already has continues to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// The object has ended: no handle of it was left, or the in-flight reference of the last one
    /// was lost.
    NoObject,
    OtherType,
    TooMany,
    /// The owner's process already keeps as many descriptors for the client as it may for one
    /// client.
    Full,
    /// The system refused the owner's process a resource that it needs.
    Starved,
    /// The hub cannot use what the client sent.
    Unfit,
}

impl Refusal {
    /// Returns a message that explains what was refused, and what helps.
    pub(crate) fn text(self) -> String {
        match self {
            Refusal::NoObject => "the object no longer exists".to_owned(),
            Refusal::OtherType => "the object is of another type than the handle".to_owned(),
            Refusal::TooMany => {
                format!(
                    "this process uses {ATTACHMENTS_MAX} objects of that process already: drop handles that are not needed"
                )
            }
            Refusal::Full => {
                "that process keeps too many descriptors open for this one: take the items that it has put, or receive the handles that it has sent".to_owned()
            }
            Refusal::Starved => {
                "that process is out of memory or descriptors: raise its limits (`ulimit -n`, `ulimit -v`)".to_owned()
            }
            Refusal::Unfit => "it does not accept what this process sent".to_owned(),
        }
    }
}
