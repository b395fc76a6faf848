//! What the hub's service thread does for a queue: attach clients, carry out what they write, and
//! end their leases.

use std::sync::Arc;

use crate::ipc::hub::{Attachment, ClientLink, REGION_BYTES, Refusal, Served, SharedObject, Tick};
use crate::ipc::region::Region;
use crate::ipc::wire::Envelope;
use crate::queue::layout::Word;
use crate::queue::options::QueueKind;
use crate::queue::owner::client::QueueClient;
use crate::queue::owner::clients::Key;
use crate::queue::owner::facet::Facet;
use crate::queue::owner::lock::QueueOwner;
use crate::queue::owner::state::QueueState;
use crate::queue::role::ClientRules;

/// The hub serves the queue itself. Handles and clients have a [`Facet`] of it: the key of the
/// queue never leaves this process.
impl SharedObject for QueueOwner {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn count_in_flight(&self, _: isize) {}

    fn attach(
        self: Arc<Self>,
        _: Arc<ClientLink>,
        _: u32,
        _: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, Refusal> {
        Err(Refusal::NoObject)
    }

    fn activate(&self) -> bool {
        self.lock().activate()
    }

    fn serve(&self, now: Tick, rest_before: Tick) -> Served {
        self.lock().serve(now, rest_before)
    }

    fn deactivate(&self) -> Vec<Arc<ClientLink>> {
        self.lock().deactivate()
    }

    fn owner_exits(&self) {
        self.update(QueueState::set_exiting);
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

impl SharedObject for Facet {
    fn fingerprint(&self) -> u64 {
        Facet::fingerprint(self)
    }

    fn count_in_flight(&self, change: isize) {
        self.owner.update(|state| state.change_in_flight(self.role, change));
    }

    fn attach(
        self: Arc<Self>,
        peer: Arc<ClientLink>,
        number: u32,
        region: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, Refusal> {
        let region = region.filter(|region| region.len() >= REGION_BYTES);
        let region = region.ok_or(Refusal::Unfit)?;
        let owner = &self.owner;
        let capacity = owner.capacity.map_or(0, |capacity| capacity as u64);
        let rules = ClientRules {
            role: self.role,
            joinable: owner.joinable,
            bounded: owner.capacity.is_some(),
            // Whoever has an actor's address can put into the queues of its host, and may not end
            // them for others.
            closes: owner.kind == QueueKind::User,
        };
        let mut client = QueueClient::new(peer, number, region, rules);
        // The client reads it once the hub has answered.
        client.set(Word::Capacity, capacity);
        let key = owner.update(|state| {
            client.count_taken_in(state.got());
            state.add_client(client)
        });
        Ok(Box::new(ServedClient { facet: self, key }))
    }

    fn activate(&self) -> bool {
        self.owner.activate()
    }

    fn serve(&self, now: Tick, rest_before: Tick) -> Served {
        self.owner.serve(now, rest_before)
    }

    fn deactivate(&self) -> Vec<Arc<ClientLink>> {
        self.owner.deactivate()
    }

    /// Does nothing, because the queue itself is notified.
    fn owner_exits(&self) {}

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

/// The hub's hold on one client of the queue. Dropping it ends the client.
struct ServedClient {
    facet: Arc<Facet>,
    key: Key,
}

impl Attachment for ServedClient {
    fn rung(&mut self) -> bool {
        self.facet.owner.lock().rung(self.key)
    }

    fn look(&mut self) -> bool {
        self.facet.owner.lock().look_at(self.key)
    }

    fn handed_on(&mut self) {
        self.facet.owner.update(|state| state.note_handed_on(self.key));
    }

    fn parcel(&mut self, parcel: Envelope) -> bool {
        self.facet.owner.lock().add_parcel(self.key, parcel)
    }

    fn object(&self) -> Arc<dyn SharedObject> {
        self.facet.clone()
    }

    fn retire(&mut self) -> bool {
        self.facet.owner.update(|state| state.retire_client(self.key))
    }
}

impl Drop for ServedClient {
    fn drop(&mut self) {
        self.retire();
        self.facet.owner.update(|state| state.end_leases(self.key));
    }
}
