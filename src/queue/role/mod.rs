//! The roles of handles: what each role allows, and how many handles have it.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::queue::layout::Tag;

/// The operations that a handle allows. An attachment that tries another one loses its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) enum Role {
    /// `Queue` and `JoinableQueue`: everything.
    Both,
    /// Put, close and join.
    Producer,
    /// Take, and finish what was taken.
    Consumer,
    /// Close and join.
    Control,
}

/// The roles that a handle with the role [`Role::Both`] can be narrowed to.
pub(in crate::queue) const ONE_WAY: [Role; 3] = [Role::Producer, Role::Consumer, Role::Control];

impl Role {
    pub(in crate::queue) fn puts(self) -> bool {
        matches!(self, Role::Both | Role::Producer)
    }

    pub(in crate::queue) fn takes(self) -> bool {
        matches!(self, Role::Both | Role::Consumer)
    }

    /// Returns whether a client in this role may write an entry with this tag.
    pub(in crate::queue) fn may_write(self, tag: Tag) -> bool {
        match tag {
            Tag::Put | Tag::Parcel => self.puts(),
            Tag::Done | Tag::Back | Tag::BadLease | Tag::Bad => self.takes(),
            Tag::Close | Tag::Discard | Tag::Join => self != Role::Consumer,
            Tag::Ask => true,
        }
    }

    /// Returns the fingerprint of a handle in this role, given that of the item.
    pub(in crate::queue) fn fingerprint(self, item: u64) -> u64 {
        item ^ self as u64
    }
}

/// What the owner of a queue allows to a client.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) struct ClientRules {
    /// That of the handles with which it has attached the queue.
    pub(in crate::queue) role: Role,
    pub(in crate::queue) joinable: bool,
    /// It may put no more than it was granted room for.
    pub(in crate::queue) bounded: bool,
    /// It may close and join the queue, if its role may.
    pub(in crate::queue) closes: bool,
}

impl ClientRules {
    /// Returns whether the client may write an entry with this tag.
    pub(in crate::queue) fn allow(self, tag: Tag) -> bool {
        let closes = matches!(tag, Tag::Close | Tag::Discard | Tag::Join);
        self.role.may_write(tag) && (self.closes || !closes)
    }
}

/// The number of handles in each role.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::queue) struct HandleCounts([usize; 4]);

impl HandleCounts {
    pub(in crate::queue) fn of(self, role: Role) -> usize {
        self.0[role as usize]
    }

    pub(in crate::queue) fn change(&mut self, role: Role, change: isize) {
        let count = &mut self.0[role as usize];
        *count = count.saturating_add_signed(change);
    }

    pub(in crate::queue) fn all(self) -> usize {
        self.0.iter().sum()
    }

    pub(in crate::queue) fn putting(self) -> usize {
        self.of(Role::Both) + self.of(Role::Producer)
    }

    pub(in crate::queue) fn taking(self) -> usize {
        self.of(Role::Both) + self.of(Role::Consumer)
    }
}

/// Counts the handles in the owner's process, which come and go without the queue's lock.
#[derive(Debug, Default)]
pub(in crate::queue) struct OwnHandles([AtomicUsize; 4]);

impl OwnHandles {
    pub(in crate::queue) fn add(&self, role: Role) {
        self.0[role as usize].fetch_add(1, Ordering::SeqCst);
    }

    pub(in crate::queue) fn remove(&self, role: Role) {
        self.0[role as usize].fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns how many handles there are now.
    ///
    /// Handles with the role `Both` are counted first. When one is narrowed, the new handle exists
    /// before the old one is dropped, so none is missed.
    pub(in crate::queue) fn count(&self) -> HandleCounts {
        HandleCounts([0, 1, 2, 3].map(|role: usize| self.0[role].load(Ordering::SeqCst)))
    }
}
