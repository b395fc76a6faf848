//! Actors that are written by hand; `generated` tests one that the macro writes.

mod address;
mod answers;
mod awaited;
mod basics;
mod checkpoint;
mod death;
mod generated;
mod order;
mod timers;

use std::time::Duration;

use offspring::actor::{Actor, Checkpoint, Context, DownReason};
use offspring::{Queue, Sender};
use serde::{Deserialize, Serialize};

pub(crate) const SHORT: Duration = Duration::from_millis(100);
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// Counts, and obeys the tests.
pub(crate) struct Counter {
    value: u64,
    context: Context<Counter>,
    stopped: Option<Queue<String>>,
    saves: bool,
}

#[derive(Clone, Serialize, Deserialize, Default)]
pub(crate) struct Setup {
    pub(crate) value: u64,
    /// Where the stop hook writes the reason.
    pub(crate) stopped: Option<Queue<String>>,
    /// Keeps each value for the next incarnation.
    pub(crate) saves: bool,
    /// The way in which `start` fails.
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Fault {
    Error,
    Panic,
    Hang,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Message {
    Add(u64),
    Get,
    Pid,
    Descriptors,
    /// Takes all free descriptors for this long.
    Hoard(Duration),
    Generation,
    Previous,
    Sleep(Duration),
    /// Puts into the first queue, and then waits until the test closes the second.
    Hold(Queue<()>, Queue<()>),
    /// Like `Hold`, and then stops the actor.
    HoldAndStop(Queue<()>, Queue<()>),
    Panic(String),
    Abort,
    Stop,
    Fail(String),
    CallSelf,
    Ask(offspring::actor::ActorRef<Counter>, Box<Message>),
    Send(Sender<u64>),
    /// Counts the message, and drops the sender.
    Take(Sender<u64>),
    Unencodable,
    Text(String),
    /// Replies with a text of this length.
    Long(usize),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Number(u64),
    Text(String),
    #[serde(skip)]
    Unencodable,
}

impl Reply {
    pub(crate) fn number(self) -> u64 {
        match self {
            Reply::Number(n) => n,
            other => panic!("a number was expected, not {other:?}"),
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Reply::Text(text) => text,
            other => panic!("a text was expected, not {other:?}"),
        }
    }
}

impl Actor for Counter {
    type Args = Setup;
    type Message = Message;
    type Reply = Reply;

    fn start(
        setup: Setup,
        context: &Context<Counter>,
    ) -> Result<Counter, Box<dyn std::error::Error>> {
        match setup.fault {
            None => {}
            Some(Fault::Error) => return Err("it shall not start".into()),
            Some(Fault::Panic) => panic!("it panics in its start"),
            Some(Fault::Hang) => std::thread::sleep(Duration::from_secs(3600)),
        }
        let value = context.checkpoint()?.unwrap_or(setup.value);
        Ok(Counter { value, context: context.clone(), stopped: setup.stopped, saves: setup.saves })
    }

    fn handle(&mut self, message: Message) -> Reply {
        match message {
            Message::Add(n) => {
                self.value += n;
                Reply::Number(self.value)
            }
            Message::Get => Reply::Number(self.value),
            Message::Pid => Reply::Number(u64::from(std::process::id())),
            Message::Descriptors => Reply::Number(crate::support::open_fds() as u64),
            Message::Hoard(time) => {
                let files: Vec<_> =
                    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    drop(files);
                });
                Reply::Done
            }
            Message::Generation => Reply::Number(self.context.generation()),
            Message::Previous => {
                Reply::Text(self.context.previous().map_or_else(String::new, ToString::to_string))
            }
            Message::Sleep(time) => {
                std::thread::sleep(time);
                Reply::Done
            }
            Message::Hold(holds, free) => {
                holds.put(()).expect("the test lives");
                let _ = free.get();
                Reply::Done
            }
            Message::HoldAndStop(holds, free) => {
                holds.put(()).expect("the test lives");
                let _ = free.get();
                self.context.stop();
                Reply::Done
            }
            Message::Panic(text) => panic!("{text}"),
            Message::Abort => std::process::abort(),
            Message::Stop => {
                self.context.stop();
                Reply::Done
            }
            Message::Fail(error) => {
                self.context.fail(error);
                Reply::Done
            }
            Message::CallSelf => Reply::Text(
                self.context
                    .address()
                    .call(Message::Get)
                    .map_or_else(|error| error.to_string(), |_| "it called itself".to_owned()),
            ),
            Message::Ask(other, message) => match other.call(*message) {
                Ok(reply) => reply,
                Err(error) => Reply::Text(error.to_string()),
            },
            Message::Send(sender) => {
                sender.send(self.value).expect("the test listens");
                Reply::Done
            }
            Message::Take(_) => {
                self.value += 1;
                Reply::Number(self.value)
            }
            Message::Unencodable => Reply::Unencodable,
            Message::Text(text) => Reply::Text(text),
            Message::Long(length) => Reply::Text("x".repeat(length)),
        }
    }

    fn stop(&mut self, reason: &DownReason) {
        if let Some(stopped) = &self.stopped {
            stopped.put(reason.to_string()).expect("the test lives");
        }
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        self.saves.then(|| Checkpoint::new(&self.value).expect("a number encodes"))
    }
}

offspring::register_actor!(Counter);
