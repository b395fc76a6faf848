//! Actors: their clients are killed, and they themselves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use offspring::actor::{Actor, ActorBuilder, ActorRef, CallError, Context};
use offspring::supervisor::{ChildSpec, Supervisor};
use offspring::{Process, ProcessBuilder};
use serde::{Deserialize, Serialize};

use super::{History, LONG, read};
use crate::support::{Random, Victim, patient, storm_kills};

/// Records each message.
struct Recorder(History);

#[derive(Serialize, Deserialize)]
struct Message {
    id: u64,
    body: Vec<u8>,
}

impl Message {
    fn new(id: u64) -> Message {
        let size = match id % 500 {
            0 => 100_000,
            n => n,
        };
        Message { id, body: vec![id as u8; size as usize] }
    }
}

impl Actor for Recorder {
    type Args = PathBuf;
    type Message = Message;
    type Reply = Message;

    fn start(
        history: PathBuf,
        _: &Context<Recorder>,
    ) -> Result<Recorder, Box<dyn std::error::Error>> {
        Ok(Recorder(History::open(&history)))
    }

    fn handle(&mut self, message: Message) -> Message {
        self.0.note(b'h', message.id);
        assert!(message.body.iter().all(|&byte| byte == message.id as u8), "a message was torn");
        message
    }
}

offspring::register_actor!(Recorder);

/// Calls and casts, with an id of its own for each message.
#[offspring::worker]
fn ask(actor: ActorRef<Recorder>, history: PathBuf, client: u64) {
    let mut history = History::open(&history);
    for n in 0.. {
        let id = client << 32 | n;
        if n % 3 == 0 {
            history.note(b'c', id);
            match actor.call(Message::new(id)) {
                Ok(reply) => {
                    assert_eq!(reply.id, id, "the reply to another call");
                    history.note(b'o', id);
                }
                // The actor was killed. Whether it has handled the message is not known.
                Err(CallError::Restarted { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        } else {
            history.note(b'c', id);
            actor.cast(Message::new(id)).expect("the actor is there, or comes back");
            history.note(b'o', id);
        }
    }
}

/// Lets clients work and die. Of `every` processes that are killed, one is the actor, if it is not
/// 0.
fn storm(every: u64) {
    let mut random = Random::of_storm();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: u64| directory.path().join(name.to_string());
    let handled = directory.path().join("actor");
    let builder = ActorBuilder::new()
        .start_timeout(LONG)
        .process(|process: ProcessBuilder| process.start_timeout(LONG));
    let supervisor = Supervisor::builder()
        .intensity(usize::MAX)
        .child(ChildSpec::actor_with::<Recorder>("recorder", builder, handled.clone()))
        .start()
        .unwrap();
    let actor: ActorRef<Recorder> = supervisor.actor("recorder").expect("it was started");
    let actor = actor.with_timeout(LONG);
    let found = || {
        let pid = supervisor.children()[0].pid?;
        // The actor may have ended since. If it is listed still, it was it that was found.
        Victim::of(pid).filter(|_| supervisor.children()[0].pid == Some(pid))
    };
    let mut started = 0;
    let mut actor_kills = 0;
    let mut running: Vec<Process<()>> = Vec::new();
    for _ in 0..storm_kills() {
        while running.len() < 3 {
            History::open(&path(started));
            running.push(patient().spawn(ask::new(actor.clone(), path(started), started)).unwrap());
            started += 1;
        }
        let stopped = match random.below(6) as usize {
            3 => found(),
            number => running.get(number).and_then(|process| Victim::of(process.pid())),
        };
        if let Some(victim) = stopped {
            victim.stop_for_a_while(&mut random);
        }
        random.sleep(20_000);
        if every > 0 && random.below(every) == 0 {
            actor_kills += u64::from(found().is_some_and(|actor| actor.kill()));
            continue;
        }
        let victim = running.swap_remove(random.below(3) as usize);
        assert!(victim.is_alive(), "{:?}", victim.join());
        victim.kill();
        victim.join().unwrap_err();
    }
    for process in running {
        process.kill();
        process.join().unwrap_err();
    }
    // A call that is behind a cast returns when all that was cast before it is handled.
    let mut ids = (started << 32)..;
    actor.cast(Message::new(ids.next().unwrap())).unwrap();
    while actor.call(Message::new(ids.next().unwrap())).is_err() {}
    supervisor.stop();
    check(&(0..started).map(path).collect::<Vec<_>>(), &handled, actor_kills);
}

fn check(clients: &[PathBuf], handled: &Path, actor_kills: u64) {
    let mut times: HashMap<u64, u32> = HashMap::new();
    let mut last: HashMap<u64, u64> = HashMap::new();
    for (_, id) in read(handled) {
        let times = times.entry(id).or_default();
        *times += 1;
        assert_eq!(*times, 1, "{id:x} was handled twice");
        // Calls do not overtake casts of the same client.
        let before = last.insert(id >> 32, id);
        assert!(before.is_none_or(|before| before < id), "{id:x} was handled after {before:x?}");
    }
    let mut lost = Vec::new();
    for client in clients {
        for (what, id) in read(client) {
            if what == b'o' && !times.contains_key(&id) {
                lost.push(id);
            }
        }
    }
    println!(
        "{} kills, {actor_kills} of them of the actor, {} messages handled, {} lost with it",
        storm_kills(),
        times.len(),
        lost.len()
    );
    // A message that the actor has taken, and dies before it records it.
    assert!(lost.len() as u64 <= actor_kills, "lost: {lost:x?}");
}

#[offspring::test(timeout = "3600s")]
fn an_actor_handles_each_message_once_in_a_storm_of_kills() {
    storm(0);
}

#[offspring::test(timeout = "3600s")]
fn an_actor_that_dies_loses_one_message_at_most_in_a_storm_of_kills() {
    storm(3);
}
