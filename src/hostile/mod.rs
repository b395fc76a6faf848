//! Hostile workers: real processes that an attacker controls, and a parent that must keep working.
//!
//! ```text
//! test --- victim --- honest workers    exchange items and share a lock, all the time
//!             |------ hostile worker    a new one in each round
//! ```
//!
//! The *victim* is a process, so that the test sees its crash, its hang, its memory and its
//! descriptors. Each round plays one [`Scene`]: the victim shares one of its objects (a queue, a
//! sender, locks, a task of its pool, ..) with a hostile worker and keeps using it, within limits.
//! Errors are fine. The test fails if this crate panics, if a call does not return, or if honest
//! workers are not served.
//!
//! A hostile worker is honest until it has used the object. Then it changes the messages that it
//! sends (see [`become_hostile`](crate::ipc::fuzz::become_hostile)) while it keeps using the public
//! API, so that every message of every protocol is attacked at its place in the protocol. One of
//! the worker's threads, the [`saboteur`], attacks all descriptors and memory that the process has.
//!
//! | variable | what | default |
//! | --- | --- | --- |
//! | `OFFSPRING_HOSTILE_SECONDS` | how long all scenes together take | 20 |
//! | `OFFSPRING_HOSTILE_SEED` | the seed of the first round | 1 |
//!
//! A failure prints the seed of its round.

mod corpus;
mod objects;
mod saboteur;
mod scenes;
mod victim;
mod witness;

use std::time::Duration;

use scenes::Scene;

use crate::ProcessBuilder;
use crate::channel::Receiver;
use crate::queue::Queue;
use crate::shared::SharedSlice;

/// How long a victim may take beyond its time before the test kills it. Its own watchdog is faster.
const PATIENCE: Duration = Duration::from_secs(120);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn survives(scene: Scene) {
    let seconds = number("OFFSPRING_HOSTILE_SECONDS", 20);
    let time = Duration::from_secs(seconds) / Scene::COUNT;
    // In memory that outlives the victim.
    let progress = SharedSlice::<u64>::zeroed(2).unwrap();
    let first = number("OFFSPRING_HOSTILE_SEED", 1);
    let victim = victim::victim::new(scene, first, time, progress.clone());
    let victim = ProcessBuilder::new().name("victim").spawn(victim).unwrap();
    let ended = victim.join_timeout(time + PATIENCE);
    let (seed, rounds) = (progress.get(0).unwrap(), progress.get(1).unwrap());
    let repeat = format!("OFFSPRING_HOSTILE_SEED={seed} ({scene:?}, round {rounds})");
    match ended {
        Ok(summary) => println!("{scene:?}: {summary}"),
        Err(error) => panic!("the victim, which tells more above: {error}; {repeat}"),
    }
}

#[crate::worker(crate = crate)]
fn lose_a_session(lost: Queue<u64>, more: Receiver<Queue<u64>>) {
    crate::queue::lose_session(&lost);
    assert!(lost.put(1).is_err());
    // The same queue, and another one of the same process.
    for queue in more.iter() {
        queue.put(2).expect("a handle that arrives now works");
    }
    assert!(lost.put(1).is_err());
}

#[crate::test(crate = crate)]
fn a_handle_that_arrives_after_a_session_was_lost_works() {
    let (lost, other) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let (sender, receiver) = crate::channel().unwrap();
    let child = ProcessBuilder::new().spawn(lose_a_session::new(lost.clone(), receiver)).unwrap();
    sender.send(lost.clone()).unwrap();
    sender.send(other.clone()).unwrap();
    drop(sender);
    let within = Duration::from_secs(20);
    assert_eq!(lost.get_timeout(within).unwrap(), 2);
    assert_eq!(other.get_timeout(within).unwrap(), 2);
    child.join_timeout(within).unwrap();
}

macro_rules! scenes {
    ($($test:ident: $scene:ident)+) => {$(
        #[crate::test(crate = crate)]
        fn $test() {
            survives(Scene::$scene);
        }
    )+};
}

scenes! {
    a_start: Start
    a_control_socket: Control
    a_session: Session
    a_queue: Queue
    descriptors: Greedy
    a_channel: Channel
    locks: Locks
    shared_memory: Memory
    a_pool: Pool
    an_actor_of_its_own: Actor
    an_actor_that_it_calls: Client
    logs: Logs
}
