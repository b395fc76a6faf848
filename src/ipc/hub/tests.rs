//! A session made by hand, with an object that only notes what the hub does with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::object::publish;
use super::{
    Attachment, ClientLink, ObjectKey, REGION_BYTES, Refusal, Served, SessionPage, SharedObject,
    Tick, ToClient, ToHub, service,
};
use crate::ipc::deadline::Deadline;
use crate::ipc::region::Region;
use crate::ipc::wire::{self, CheckedReceiver, CheckedSender, Envelope};
use crate::sys::Pidfd;

const FINGERPRINT: u64 = 7;
const LONG: Duration = Duration::from_secs(20);

#[derive(Default)]
struct TestObject {
    attached: AtomicUsize,
    retired: AtomicUsize,
    /// Numbers of the sessions whose leases ended.
    ended: Mutex<Vec<u32>>,
    /// What serving it does: 0 finds nothing to do, 1 finds something corrupt, 2 panics.
    serves: AtomicUsize,
    clients: Mutex<Vec<Weak<ClientLink>>>,
}

struct Use(Arc<TestObject>, Arc<ClientLink>);

impl SharedObject for TestObject {
    fn fingerprint(&self) -> u64 {
        FINGERPRINT
    }

    fn count_in_flight(&self, _: isize) {}

    fn attach(
        self: Arc<Self>,
        peer: Arc<ClientLink>,
        number: u32,
        _: Option<Arc<Region>>,
    ) -> Result<Box<dyn Attachment>, Refusal> {
        assert_ne!(number, 2, "a bug in attaching");
        self.attached.fetch_add(1, Ordering::SeqCst);
        self.clients.lock().unwrap().push(Arc::downgrade(&peer));
        Ok(Box::new(Use(self, peer)))
    }

    fn serve(&self, _: Tick, _: Tick) -> Served {
        match self.serves.load(Ordering::SeqCst) {
            0 => Served::default(),
            1 => Served { corrupt: self.deactivate(), ..Served::default() },
            _ => panic!("a bug in serving"),
        }
    }

    fn deactivate(&self) -> Vec<Arc<ClientLink>> {
        self.clients.lock().unwrap().iter().filter_map(Weak::upgrade).collect()
    }

    fn owner_exits(&self) {}

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}

impl Attachment for Use {
    fn rung(&mut self) -> bool {
        true
    }

    fn parcel(&mut self, _: Envelope) -> bool {
        false
    }

    fn object(&self) -> Arc<dyn SharedObject> {
        self.0.clone()
    }

    fn retire(&mut self) -> bool {
        self.0.retired.fetch_add(1, Ordering::SeqCst);
        false
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.ended.lock().unwrap().push(self.1.number);
    }
}

struct HubClient {
    object: Arc<TestObject>,
    key: ObjectKey,
    page: SessionPage,
    up: CheckedSender<ToHub>,
    down: CheckedReceiver<ToClient>,
    ticket: CheckedSender<ToHub>,
}

impl HubClient {
    fn open() -> HubClient {
        let object = Arc::new(TestObject::default());
        let shared: Arc<dyn SharedObject> = object.clone();
        let key = ObjectKey::new().unwrap();
        publish(key, &shared);
        let ticket = service::in_flight(shared).unwrap();
        let page = SessionPage::new().unwrap();
        let (up, up_in_hub) = wire::channel().unwrap();
        let (down_in_hub, down) = wire::channel().unwrap();
        let process = Pidfd::of_self().unwrap().into();
        let open = ToHub::Open { page: page.memory(), up: up_in_hub, down: down_in_hub, process };
        wire::send(&ticket, &open).unwrap();
        service::announce();
        HubClient { object, key, page, up, down, ticket }
    }

    fn send(&self, message: ToHub) {
        wire::send(&self.up, &message).unwrap();
    }

    fn attach(&self, number: u32, object: ObjectKey, fingerprint: u64, length: usize) {
        let region = Some(Region::new(length).unwrap().memory());
        self.send(ToHub::Attach { number, object, fingerprint, region });
    }

    fn wait_answers(&self, count: u64) {
        eventually(|| self.page.answered() == count);
    }
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::yield_now();
    }
}

#[test]
fn what_cannot_be_attached_is_refused_and_the_session_goes_on() {
    let client = HubClient::open();
    let key = client.key;
    client.attach(0, key, FINGERPRINT, REGION_BYTES);
    // No handle of the object; a bug; another type; too little memory.
    client.attach(1, ObjectKey::new().unwrap(), FINGERPRINT, REGION_BYTES);
    client.attach(2, key, FINGERPRINT, REGION_BYTES);
    client.attach(3, key, FINGERPRINT + 1, REGION_BYTES);
    client.attach(4, key, FINGERPRINT, REGION_BYTES / 2);
    // Refused attachments do not exist. Messages for them, or for an unknown number, harm nothing.
    for number in [1, 2, 3, 4, 900] {
        client.send(ToHub::InFlight { number, receiver: wire::channel().unwrap().1 });
        client.send(ToHub::Detach { number });
    }
    client.attach(5, key, FINGERPRINT, REGION_BYTES);
    client.wait_answers(6);
    assert_eq!(client.page.refused(), 4);
    let refusals: Vec<_> = std::iter::from_fn(|| client.down.recv(&Deadline::now()).ok())
        .filter_map(|message| match message {
            ToClient::Refused { number, refusal } => Some((number, refusal)),
            _ => None,
        })
        .collect();
    let unfit = |number| (number, Refusal::Unfit);
    assert_eq!(refusals, [(1, Refusal::NoObject), unfit(2), (3, Refusal::OtherType), unfit(4)]);
    assert_eq!(client.object.attached.load(Ordering::SeqCst), 2);
    assert!(client.object.ended.lock().unwrap().is_empty());
}

#[test]
fn what_a_process_holds_outlives_its_session() {
    // The channel is closed; a region is corrupt; serving it panics; a message has no place here.
    for case in 0..4 {
        let client = HubClient::open();
        client.attach(0, client.key, FINGERPRINT, REGION_BYTES);
        client.wait_answers(1);
        let HubClient { object, page, up, down, ticket, .. } = client;
        let number = page.number();
        match case {
            0 => drop(up),
            1 | 2 => {
                object.serves.store(case, Ordering::SeqCst);
                wire::send(&up, &ToHub::Bell { number: 0 }).unwrap();
            }
            _ => wire::send(
                &up,
                &ToHub::Attach {
                    number: 5,
                    object: ObjectKey::new().unwrap(),
                    fingerprint: 0,
                    region: None,
                },
            )
            .unwrap(),
        }
        eventually(|| object.retired.load(Ordering::SeqCst) == 1);
        // The client is this process, which still runs, and sees the end of its session.
        eventually(|| {
            let end = down.recv(&Deadline::now());
            matches!(end, Err(crate::ipc::deadline::WaitEnd::Failed(wire::Failure::Gone)))
        });
        // The client keeps what it holds, and its number: another client gets another number.
        let other = HubClient::open();
        other.attach(0, other.key, FINGERPRINT, REGION_BYTES);
        other.wait_answers(1);
        assert_ne!(other.page.number(), number, "{case}");
        assert!(object.ended.lock().unwrap().is_empty(), "{case}");
        drop(ticket);
    }
}
