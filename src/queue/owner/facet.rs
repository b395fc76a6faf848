//! The facets of a queue: the object that the hub serves to the handles of each role.
//!
//! A client attaches a facet by the facet's own key. Only two kinds of handles carry that key:
//! those with the facet's role, and those with the role `Both`, which may be narrowed. So a process
//! that holds a producer's handle cannot take items, whatever it writes: it does not know the key
//! for that.

use std::io;
use std::sync::Arc;

use crate::ipc::hub::{self, ObjectKey, SharedObject};
use crate::queue::owner::lock::QueueOwner;
use crate::queue::role::{ONE_WAY, Role};

/// A queue, for the handles of one role.
#[derive(Debug)]
pub(in crate::queue) struct Facet {
    pub(in crate::queue) owner: Arc<QueueOwner>,
    pub(in crate::queue) role: Role,
    pub(in crate::queue) key: ObjectKey,
    /// The facets that this one can be narrowed to. They live as long as this one, because each
    /// process that has a handle of this one may attach them at any time.
    narrower: Vec<Arc<Facet>>,
}

impl Facet {
    /// Makes the facets of a new queue. Returns the one that includes all others.
    pub(in crate::queue) fn of_queue(
        owner: Arc<QueueOwner>,
        mut new_key: impl FnMut() -> io::Result<ObjectKey>,
    ) -> io::Result<Arc<Facet>> {
        let mut facet = |role, narrower| {
            let facet = Facet { owner: owner.clone(), role, key: new_key()?, narrower };
            let facet = Arc::new(facet);
            let object: Arc<dyn SharedObject> = facet.clone();
            hub::publish(facet.key, &object);
            Ok(facet)
        };
        let narrower = ONE_WAY.map(|role| facet(role, Vec::new()));
        let narrower = narrower.into_iter().collect::<io::Result<_>>()?;
        facet(Role::Both, narrower)
    }

    /// Returns the fingerprint of the type of its handles.
    pub(in crate::queue) fn fingerprint(&self) -> u64 {
        self.role.fingerprint(self.owner.fingerprint)
    }

    /// Returns the facet for this role, which this one includes.
    pub(in crate::queue) fn narrowed(&self, role: Role) -> Arc<Facet> {
        let facet = self.narrower.iter().find(|facet| facet.role == role);
        facet.expect("it is not narrowed twice").clone()
    }

    /// Returns the keys of the facets that this one includes, in the order of [`ONE_WAY`].
    pub(in crate::queue) fn narrower_keys(&self) -> Vec<ObjectKey> {
        self.narrower.iter().map(|facet| facet.key).collect()
    }
}
