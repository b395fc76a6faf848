//! Channels and pipes: senders are killed, and both ends of pipes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use offspring::channel::{RecvTimeoutError, SendTimeoutError};
use offspring::shared::SharedBytes;
use offspring::{Connection, Process, Receiver, Sender, channel, pipe};
use serde::{Deserialize, Serialize};

use super::{History, LONG, read};
use crate::support::{Random, Victim, patient, storm_kills};

/// Messages of all kinds: mostly small, some that do not fit a ring entry, some with a handle.
#[derive(Serialize, Deserialize)]
struct Message {
    sender: usize,
    number: u64,
    body: Vec<u8>,
    shared: Option<SharedBytes>,
}

impl Message {
    fn new(sender: usize, number: u64) -> Message {
        let size = match number % 200 {
            0 => 100_000,
            n if n % 20 == 0 => 5_000,
            n => n as usize,
        };
        let shared =
            (number % 50 == 7).then(|| SharedBytes::copy_from(&number.to_le_bytes()).unwrap());
        Message { sender, number, body: vec![number as u8; size], shared }
    }

    fn check(&self) {
        let Message { number, body, shared, .. } = self;
        assert!(body.iter().all(|&byte| byte == *number as u8), "a message was torn");
        assert_eq!(shared.is_some(), number % 50 == 7);
        if let Some(shared) = shared {
            assert_eq!(shared[..], number.to_le_bytes());
        }
    }
}

#[offspring::worker]
fn send(messages: Sender<Message>, history: PathBuf, sender: usize) {
    let mut history = History::open(&history);
    for number in 0.. {
        messages.send(Message::new(sender, number)).expect("the test receives");
        history.note(b'o', number);
    }
}

/// Returns how many messages of each sender came.
fn receive(messages: &Receiver<Message>) -> Vec<u64> {
    let mut came = Vec::new();
    for message in messages {
        message.check();
        if came.len() <= message.sender {
            came.resize(message.sender + 1, 0);
        }
        let next = &mut came[message.sender];
        assert_eq!(message.number, *next, "a message was lost, came twice, or in another order");
        *next += 1;
    }
    came
}

#[offspring::test(timeout = "3600s")]
fn a_channel_loses_nothing_in_a_storm_of_kills() {
    let mut random = Random::of_storm();
    let directory = tempfile::tempdir().unwrap();
    let (sender, messages) = channel().unwrap();
    let receiver = thread::spawn(move || receive(&messages));
    let history = |number: usize| directory.path().join(number.to_string());
    let mut started = 0;
    let mut running: Vec<Process<()>> = Vec::new();
    for _ in 0..storm_kills() {
        while running.len() < 3 {
            let path = history(started);
            History::open(&path);
            running.push(patient().spawn(send::new(sender.clone(), path, started)).unwrap());
            started += 1;
        }
        if random.below(2) == 0 {
            let process = &running[random.below(3) as usize];
            Victim::of(process.pid()).expect("it was not joined").stop_for_a_while(&mut random);
        }
        random.sleep(20_000);
        let victim = running.swap_remove(random.below(3) as usize);
        assert!(victim.is_alive(), "{:?}", victim.join());
        victim.kill();
        victim.join().unwrap_err();
    }
    for process in running {
        process.kill();
        process.join().unwrap_err();
    }
    drop(sender);
    let mut came = receiver.join().unwrap();
    came.resize(started, 0);
    for (number, came) in came.iter().enumerate() {
        let sent = read(&history(number)).len() as u64;
        // The last one may be there, whose sender died before it could record that.
        assert!((sent..=sent + 1).contains(came), "sender {number}: {sent} sent, {came} came");
    }
    println!("{} kills, {} messages", storm_kills(), came.iter().sum::<u64>());
}

#[offspring::worker]
fn echo(messages: Connection<Message, Message>) {
    while let Ok(message) = messages.recv() {
        messages.send(message).expect("the test receives");
    }
}

/// Sends, and receives what comes back, until the other end is gone. Both must learn of that.
fn talk(messages: &Connection<Message, Message>, echoed: &AtomicU64) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                match messages.send_timeout(Message::new(0, number), LONG) {
                    Ok(()) => {}
                    Err(SendTimeoutError::Disconnected(_)) => return,
                    Err(error) => panic!("message {number}: {error}"),
                }
            }
        });
        for number in 0.. {
            match messages.recv_timeout(LONG) {
                Ok(message) => {
                    message.check();
                    assert_eq!(message.number, number);
                    echoed.fetch_add(1, Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(error) => panic!("reply {number}: {error}"),
            }
        }
    });
}

#[offspring::test(timeout = "3600s")]
fn whoever_talks_to_a_process_learns_of_its_death_in_a_storm_of_kills() {
    let mut random = Random::of_storm();
    let echoed = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut running: Vec<Process<()>> = Vec::new();
        let mut talks = Vec::new();
        for _ in 0..storm_kills() {
            while running.len() < 3 {
                let (ours, theirs) = pipe().unwrap();
                running.push(patient().spawn(echo::new(theirs)).unwrap());
                talks.push(scope.spawn(|| {
                    let ours = ours;
                    talk(&ours, &echoed);
                }));
            }
            if random.below(2) == 0 {
                let process = &running[random.below(3) as usize];
                Victim::of(process.pid()).expect("it was not joined").stop_for_a_while(&mut random);
            }
            random.sleep(20_000);
            let at = random.below(3) as usize;
            let victim = running.swap_remove(at);
            assert!(victim.is_alive(), "{:?}", victim.join());
            victim.kill();
            victim.join().unwrap_err();
            talks.swap_remove(at).join().expect("the end of its process was told");
        }
        for process in running {
            process.kill();
            process.join().unwrap_err();
        }
    });
    println!("{} kills, {} echoes", storm_kills(), echoed.into_inner());
}
