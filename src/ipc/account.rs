//! Accounts of what this process keeps open because another process has sent it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys;

/// What this process keeps for one client process, over all sessions of that process: open
/// descriptors, and attached objects.
///
/// A client whose account is full has to wait: the hub leaves the client's messages in its socket,
/// where they cost this process nothing.
#[derive(Debug, Default)]
pub(crate) struct Account {
    descriptors: AtomicUsize,
    objects: AtomicUsize,
}

/// Descriptors on an account. Dropping this takes them off the account.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    descriptors: usize,
}

/// An object on an account, until it is dropped.
#[derive(Debug)]
pub(crate) struct ObjectCharge(Arc<Account>);

/// An account with fewer descriptors than this is not full, whatever the limit of this process is.
const NEVER_FULL: usize = 16;
/// A client has at most four unread parcels, each with at most 33 descriptors. One more, which was
/// read before them, may have filled its account.
const LEFT_UNREAD: usize = 5 * 33;

impl Account {
    /// Adds open descriptors.
    pub(crate) fn charge(self: &Arc<Self>, descriptors: usize) -> Charge {
        self.descriptors.fetch_add(descriptors, Ordering::Relaxed);
        Charge { account: self.clone(), descriptors }
    }

    /// Adds an object, unless there are already `most`.
    pub(crate) fn charge_object(self: &Arc<Self>, most: usize) -> Option<ObjectCharge> {
        let add = |objects| (objects < most).then_some(objects + 1);
        let added = self.objects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        added.is_ok().then(|| ObjectCharge(self.clone()))
    }

    /// Returns whether the account holds half of the descriptors that this process may open.
    pub(crate) fn is_full(&self) -> bool {
        self.has(0)
    }

    /// Returns whether the account holds more than any honest client leaves: a full account, and
    /// the parcels that were unread when the client's process ended.
    ///
    /// These parcels count for at most another quarter of the descriptors. So enough remain to read the
    /// rest and to end the session, which may free the others.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.has(LEFT_UNREAD.min(sys::descriptors_max() / 4))
    }

    /// Asks the system for the limit of this process, which may change at any time, but only if the
    /// account is large enough for it to matter.
    fn has(&self, beyond_half: usize) -> bool {
        let open = self.descriptors.load(Ordering::Relaxed);
        open >= NEVER_FULL && open >= (sys::descriptors_max() / 2).saturating_add(beyond_half)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.descriptors.fetch_sub(self.descriptors, Ordering::Relaxed);
    }
}

impl Drop for ObjectCharge {
    fn drop(&mut self) {
        self.0.objects.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_comes_off() {
        let account = Arc::new(Account::default());
        let half = sys::descriptors_max() / 2;
        let first = account.charge(half - 1);
        assert!(!account.is_full());
        let second = account.charge(1);
        assert!(account.is_full() && !account.is_overdrawn());
        drop(second);
        assert!(!account.is_full());
        drop(first);
        assert_eq!(account.descriptors.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn there_are_at_most_as_many_objects() {
        let account = Arc::new(Account::default());
        let kept: Vec<_> = (0..3).map(|_| account.charge_object(3).unwrap()).collect();
        assert!(account.charge_object(3).is_none());
        drop(kept);
        assert!(account.charge_object(1).is_some());
    }
}
