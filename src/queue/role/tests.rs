//! Tests: what clients may do, whatever they write; and the count of those that may still put or
//! take, compared with a model.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Role;
use crate::ipc::deadline::{Deadline, WaitEnd};
use crate::ipc::fuzz::Random;
use crate::ipc::hub::{self, ToHub};
use crate::ipc::wire::CheckedSender;
use crate::queue::crowd::{CrowdClient, eventually, facet_of, owner_of, ring};
use crate::queue::handle::Handle;
use crate::queue::layout::{self, Tag, Word};
use crate::queue::options::{QueueKind, QueueOptions};
use crate::queue::outcome::QueueFailure;
use crate::queue::owner::lock::QueueOwner;

const ROLES: [Role; 4] = [Role::Both, Role::Producer, Role::Consumer, Role::Control];

fn narrowed(handle: &Handle, role: Role) -> Handle {
    if role == Role::Both { handle.clone() } else { handle.narrowed(role) }
}

/// Returns the number of attachments.
fn clients(owner: &QueueOwner) -> usize {
    owner.lock().clients()
}

fn new_queue(joinable: bool) -> Handle {
    Handle::new::<u64>(QueueOptions::default(), joinable).unwrap()
}

#[test]
fn a_client_that_may_not_take_gets_nothing() {
    for role in [Role::Producer, Role::Control] {
        let handle = new_queue(true);
        let client = CrowdClient::open(&narrowed(&handle, role));
        for level in [Word::Getters, Word::Tasks] {
            layout::word(&client.region, level).store(5, Ordering::SeqCst);
        }
        eventually("it is attached", || clients(owner_of(&handle)) == 1);
        for number in 0..100u64 {
            handle.put(&number, &Deadline::never()).unwrap();
            ring(&client);
        }
        assert_eq!(handle.len().unwrap(), 100);
        let mut inbox = layout::inbox_reader(&client.region);
        assert!(inbox.front().unwrap().is_none(), "{role:?}");
        // Its wait does not end anything for the others, either.
        for number in 0..100 {
            let got = handle.get::<u64, _>(&Deadline::now()).unwrap();
            assert_eq!(got.value, number);
        }
    }
}

#[test]
fn a_client_that_writes_what_its_role_does_not_allow_is_thrown_out() {
    for role in ROLES {
        for tag in [Tag::Put, Tag::Close, Tag::Join, Tag::Discard, Tag::Done, Tag::Back] {
            let handle = new_queue(true);
            let mut client = CrowdClient::open(&narrowed(&handle, role));
            eventually("it is attached", || clients(owner_of(&handle)) == 1);
            assert!(client.outbox.push(tag as u32, &7u64.to_le_bytes()).unwrap());
            ring(&client);
            // It has taken nothing, so there is no lease that it could end.
            let is_done = matches!(tag, Tag::Done | Tag::Back);
            if is_done || !role.may_write(tag) {
                eventually("it is thrown out", || clients(owner_of(&handle)) == 0);
                assert_eq!(handle.len().unwrap(), 0, "{role:?} {tag:?}");
                assert!(!handle.is_closed().unwrap(), "{role:?} {tag:?}");
            } else {
                eventually("it is done", || {
                    let state = owner_of(&handle);
                    state.len() == 1 || state.is_closed() || tag == Tag::Join
                });
                assert_eq!(clients(owner_of(&handle)), 1, "{role:?} {tag:?}");
            }
        }
    }
}

#[test]
fn a_client_does_not_close_a_queue_of_an_actors_host() {
    let kinds = [QueueKind::Mailbox, QueueKind::Internal];
    for (kind, role) in kinds.into_iter().flat_map(|kind| ROLES.map(|role| (kind, role))) {
        for tag in [Tag::Close, Tag::Join, Tag::Discard] {
            let options = QueueOptions { kind, ..QueueOptions::default() };
            let handle = Handle::new::<u64>(options, true).unwrap();
            let mut client = CrowdClient::open(&narrowed(&handle, role));
            eventually("it is attached", || clients(owner_of(&handle)) == 1);
            assert!(client.outbox.push(tag as u32, &7u64.to_le_bytes()).unwrap());
            ring(&client);
            eventually("it is thrown out", || clients(owner_of(&handle)) == 0);
            assert!(!handle.is_closed().unwrap(), "{kind:?} {role:?} {tag:?}");
        }
    }
}

/// A queue, and everything that refers to it.
struct Holders {
    owner: Arc<QueueOwner>,
    own: Vec<(Role, Handle)>,
    in_flight: Vec<(Role, CheckedSender<ToHub>)>,
    clients: Vec<(Role, CrowdClient)>,
    shared: bool,
}

impl Holders {
    fn new() -> Holders {
        let handle = new_queue(true);
        let owner = owner_of(&handle).clone();
        let own = vec![(Role::Both, handle)];
        Holders { owner, own, in_flight: Vec::new(), clients: Vec::new(), shared: false }
    }

    /// Takes one of the steps by which handles come and go. Only a handle can make another handle.
    fn step(&mut self, random: &mut Random) {
        let pick = |random: &mut Random, length: usize| random.below(length as u64) as usize;
        let roles = |from: Role| if from == Role::Both { &ROLES[..] } else { &[] };
        match random.below(7) {
            0 | 1 if !self.own.is_empty() => {
                let (role, handle) = &self.own[pick(random, self.own.len())];
                let made = match roles(*role) {
                    [] => (*role, handle.clone()),
                    roles => {
                        let role = *random.choose(roles);
                        (role, narrowed(handle, role))
                    }
                };
                self.own.push(made);
            }
            2 if !self.own.is_empty() => {
                let (role, handle) = &self.own[pick(random, self.own.len())];
                let reference = hub::in_flight(facet_of(handle).clone()).unwrap();
                self.in_flight.push((*role, reference));
                self.shared = true;
            }
            3 if !self.own.is_empty() => {
                let (role, handle) = &self.own[pick(random, self.own.len())];
                self.clients.push((*role, CrowdClient::open(handle)));
                self.shared = true;
            }
            4 if !self.own.is_empty() => drop(self.own.swap_remove(pick(random, self.own.len()))),
            5 if !self.in_flight.is_empty() => {
                let lost = self.in_flight.swap_remove(pick(random, self.in_flight.len()));
                drop(lost);
            }
            6 if !self.clients.is_empty() => {
                let dead = self.clients.swap_remove(pick(random, self.clients.len()));
                drop(dead);
            }
            _ => {}
        }
        hub::announce();
    }

    fn elsewhere(&self) -> impl Iterator<Item = Role> {
        let in_flight = self.in_flight.iter().map(|(role, _)| *role);
        in_flight.chain(self.clients.iter().map(|(role, _)| *role))
    }

    /// Returns whether some handle can take. Without one, the queue is severed.
    fn may_be_taken(&self) -> bool {
        let mut all = self.elsewhere().chain(self.own.iter().map(|(role, _)| *role));
        all.any(Role::takes)
    }

    /// Returns whether some handle can put. Without one, a thread here waits in vain. Once another
    /// process has had a handle, a handle of this process that does both is taken to be the waiting
    /// thread's.
    fn may_be_put(&self) -> bool {
        let own = |&(role, _): &(Role, Handle)| match role {
            Role::Both => !self.shared,
            role => role.puts(),
        };
        self.elsewhere().any(Role::puts) || self.own.iter().any(own)
    }

    fn ends_for_get(&self) -> bool {
        match self.owner.get(&Deadline::now()) {
            Err(WaitEnd::Timeout(_)) => false,
            Err(WaitEnd::Failed(QueueFailure::Abandoned(_))) => true,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_counts_agree_with_a_model() {
    let mut random = Random::new();
    let (mut severed, mut ended) = (0, 0);
    let until = Instant::now() + Duration::from_secs(5);
    for _ in 0..40 {
        let mut holders = Holders::new();
        for _ in 0..1 + random.below(20) {
            holders.step(&mut random);
            eventually("the clients and references are counted", || {
                let counted = (clients(&holders.owner), holders.owner.lock().in_flight());
                counted == (holders.clients.len(), holders.in_flight.len())
            });
            let refused = holders.owner.lock().refuses_puts();
            assert_eq!(refused, !holders.may_be_taken());
            assert_eq!(holders.ends_for_get(), !holders.may_be_put());
            severed += u32::from(refused);
            ended += u32::from(!holders.may_be_put());
        }
        if Instant::now() > until {
            break;
        }
    }
    assert!(severed > 0 && ended > 0, "{severed} {ended}");
}

#[test]
fn handles_of_different_roles_are_of_different_types() {
    let item = crate::ipc::wire::fingerprint("u64");
    let all = [Role::Both, Role::Producer, Role::Consumer, Role::Control];
    let mut types = all.map(|role| role.fingerprint(item)).to_vec();
    types.dedup();
    assert_eq!(types.len(), all.len());
}
