//! What the hub's service thread does for a queue: attach clients, carry out what they write, and
//! end their leases.

use std::sync::Arc;

use crate::failpoints;
use crate::ipc::hub::{Attachment, ClientLink, REGION_BYTES, Refusal, Serviced, SharedObject};
use crate::ipc::region::Region;
use crate::ipc::ring::Corrupt;
use crate::ipc::wire::Envelope;
use crate::queue::layout::Word;
use crate::queue::owner::client::QueueClient;
use crate::queue::owner::lock::QueueOwner;
use crate::queue::owner::state::QueueState;

impl SharedObject for QueueOwner {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn count_in_flight(&self, change: isize) {
        // Called in the middle of an encoding, where the service thread must not be woken.
        self.update_untimed(|state| state.change_in_flight(change));
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
        let key = self.update_untimed(|state| state.add_client(client));
        Ok(Box::new(ServedClient { owner: self, key }))
    }

    fn owner_exits(&self) {
        self.update_untimed(QueueState::set_exiting);
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

/// The service thread's hold on one client of the queue. Dropping it ends the client.
struct ServedClient {
    owner: Arc<QueueOwner>,
    key: u64,
}

impl Attachment for ServedClient {
    fn service(&mut self) -> Result<Serviced, Corrupt> {
        let mut state = self.owner.lock();
        let busy = state.drain(self.key)?;
        failpoints::point("hub.drained");
        let Some(client) = state.client(self.key) else {
            return Ok(Serviced::Idle);
        };
        let asks = client.has_question() || client.joins();
        if asks {
            // The answer must include what others put before this client asked.
            state.drain_all();
        }
        if busy || asks || state.needs_schedule(self.key) {
            state.schedule();
            failpoints::point("hub.settled");
        }
        let next = state.reset_timer();
        Ok(match next {
            _ if busy => Serviced::Busy,
            Some(at) => Serviced::Again(at),
            None => Serviced::Idle,
        })
    }

    fn parcel(&mut self, parcel: Envelope) {
        self.owner.lock().add_parcel(self.key, parcel);
    }

    fn object(&self) -> Arc<dyn SharedObject> {
        self.owner.clone()
    }

    fn retire(&mut self) -> bool {
        self.owner.update_untimed(|state| {
            // First what the client wrote before its end: items whose `put` returned are not lost,
            // and a lease that it has ended must not be delivered again. Only what is left goes
            // back.
            if !failpoints::is_mutated("end.no-drain") {
                state.drain_fully(self.key);
            }
            state.retire_client(self.key)
        })
    }
}

impl Drop for ServedClient {
    fn drop(&mut self) {
        self.retire();
        self.owner.update_untimed(|state| state.end_leases(self.key));
    }
}
