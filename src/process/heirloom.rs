//! What each process of the tree is given by its parent besides its worker: one value, of a layer above.

use std::sync::{Mutex, OnceLock};

use serde::de::DeserializeOwned;

use crate::hub;
use crate::sys::lock;
use crate::wire::{self, Encoded, Packet};

/// Makes the value for a child; `None` if there is none to give.
type Give = fn() -> Option<Encoded>;

static GIVE: OnceLock<Give> = OnceLock::new();
static INHERITED: Mutex<Option<Packet>> = Mutex::new(None);

/// From now on each child of this process gets what `give` makes.
pub(crate) fn bequeath(give: Give) {
    let _ = GIVE.set(give);
}

/// What this process got from its parent; once.
pub(crate) fn take<T: DeserializeOwned>() -> Option<T> {
    let packet = lock(&INHERITED).take()?;
    packet
        .decode()
        .inspect_err(|error| log::error!("what the parent gave: {error}"))
        .ok()
}

pub(super) fn receive(heirloom: Option<Packet>) {
    *lock(&INHERITED) = heirloom;
}

/// For the next child. Without it the child starts all the same.
pub(super) fn make() -> Option<Packet> {
    let encoded = GIVE.get().and_then(|give| give())?;
    // The child is one of those that the value's handles are under way to.
    hub::announce();
    wire::drop_strays();
    Packet::new(encoded).ok()
}
