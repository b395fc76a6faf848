//! What the hub's service thread does for a queue: attach clients, carry out what they write, and
//! end their leases.

use std::sync::Arc;

use crate::ipc::hub::{Attachment, ClientLink, REGION_BYTES, Refusal, Served, SharedObject, Tick};
use crate::ipc::region::Region;
use crate::ipc::wire::Envelope;
use crate::queue::layout::Word;
use crate::queue::owner::client::QueueClient;
use crate::queue::owner::clients::Key;
use crate::queue::owner::lock::QueueOwner;
use crate::queue::owner::state::QueueState;

impl SharedObject for QueueOwner {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn count_in_flight(&self, change: isize) {
        self.update(|state| state.change_in_flight(change));
    }

    fn attach(
        self: Arc<Self>,
        peer: Arc<ClientLink>,
        number: u32,
        region: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, Refusal> {
        let region = region.filter(|region| region.len() >= REGION_BYTES);
        let region = region.ok_or(Refusal::Unfit)?;
        let capacity = self.capacity.map_or(0, |capacity| capacity as u64);
        let mut client = QueueClient::new(peer, number, region, self.joinable);
        // A client reads it once the hub has answered.
        client.set(Word::Capacity, capacity);
        let key = self.update(|state| state.add_client(client));
        Ok(Box::new(ServedClient { owner: self, key }))
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

/// The hub's hold on one client of the queue. Dropping it ends the client.
struct ServedClient {
    owner: Arc<QueueOwner>,
    key: Key,
}

impl Attachment for ServedClient {
    fn rung(&mut self) -> bool {
        self.owner.lock().rung(self.key)
    }

    fn parcel(&mut self, parcel: Envelope) -> bool {
        self.owner.lock().add_parcel(self.key, parcel)
    }

    fn object(&self) -> Arc<dyn SharedObject> {
        self.owner.clone()
    }

    fn retire(&mut self) -> bool {
        self.owner.update(|state| state.retire_client(self.key))
    }
}

impl Drop for ServedClient {
    fn drop(&mut self) {
        self.retire();
        self.owner.update(|state| state.end_leases(self.key));
    }
}
