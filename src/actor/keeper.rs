//! The keeper's side of an actor: its mailbox, its present incarnation, who wants to know of it.
//!
//! A [`Post`] outlives the incarnations. Each of them has a process, a channel for direct calls, and a thread here that
//! hears its reports until it ends, and then why. Whether there will be another one is decided by who launched it (`on_end`):
//! until that is said by [`Post::publish`], clients of the dead incarnation wait for the word.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crate::actor::address::ActorRef;
use crate::actor::behaviour::Actor;
use crate::actor::incarnation::{ActorProcess, Outcome};
use crate::actor::letters::{ActorKey, Blob, Control, Erased, News, Report, Request, Status};
use crate::actor::link::Peer;
use crate::actor::plan::Plan;
use crate::channel::{Receiver, Sender, channel};
use crate::error::{CreateError, DownReason, ExitReason, JoinError, RecvTimeoutError, StartError};
use crate::process::Process;
use crate::queue::JoinableQueue;
use crate::sys::{self, lock};

/// A client that does not take its news for this long is told no more; it asks again when it misses them.
const NEWS_PATIENCE: Duration = Duration::from_millis(200);

/// Called once for each incarnation that started, with its generation and its end.
pub(crate) type OnEnd = Box<dyn FnOnce(&Arc<Post>, u64, DownReason) + Send>;

pub(crate) struct Post {
    pub(crate) key: ActorKey,
    pub(crate) name: String,
    pub(crate) mailbox: JoinableQueue<Erased>,
    state: Mutex<State>,
    changed: Condvar,
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Debug)]
struct State {
    status: Status,
    /// How often it was launched.
    launches: u64,
    running: Option<Running>,
    previous: Option<DownReason>,
    checkpoint: Option<Blob>,
}

#[derive(Clone, Debug)]
struct Running {
    process: Arc<Process<Outcome>>,
    door: Sender<Control>,
    /// It missed this limit, and was killed for it.
    hung: Option<Duration>,
}

enum Subscriber {
    Here(Weak<dyn Peer>),
    There { client: u64, news: Sender<News> },
}

impl Post {
    pub(crate) fn new(key: ActorKey, name: &str, mailbox: usize) -> Result<Post, CreateError> {
        // A letter comes back whenever an incarnation dies that has it in hand; that is no fault of the letter.
        let mailbox = JoinableQueue::builder()
            .capacity(mailbox)
            .max_deliveries(u32::MAX)
            .max_dead_letters(0)
            .build()?;
        // One that has tried to get counts as a taker: so a cast waits for a restart, and is not told that nobody is left.
        let _ = mailbox.try_get();
        Ok(Post {
            key,
            name: name.to_owned(),
            mailbox,
            state: Mutex::new(State {
                status: Status::Starting,
                launches: 0,
                running: None,
                previous: None,
                checkpoint: None,
            }),
            changed: Condvar::new(),
            subscribers: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn news(&self, status: Status, first: bool) -> News {
        News {
            key: self.key,
            status,
            mailbox: first.then(|| self.mailbox.clone()),
        }
    }

    pub(super) fn subscribe_here(&self, peer: &Arc<dyn Peer>) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| !matches!(subscriber, Subscriber::Here(peer) if peer.strong_count() == 0));
        subscribers.push(Subscriber::Here(Arc::downgrade(peer)));
        let status = self.state().status.clone();
        peer.news(self.news(status, true));
    }

    pub(super) fn subscribe_there(&self, client: u64, news: Sender<News>) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| !matches!(subscriber, Subscriber::There { client: old, .. } if *old == client));
        let status = self.state().status.clone();
        if news.send_timeout(self.news(status, true), NEWS_PATIENCE).is_ok() {
            subscribers.push(Subscriber::There { client, news });
        }
    }

    /// From now on this is how the actor is; all who asked are told, in the order of the changes.
    pub(crate) fn publish(&self, status: Status) {
        let mut subscribers = lock(&self.subscribers);
        self.state().status = status.clone();
        if matches!(status, Status::Down { .. }) {
            // What lies there ends here, such as senders that others wait on.
            let lost = self.mailbox.close_now();
            if lost > 0 {
                log::warn!(target: "offspring::actor", "actor `{}` is down: {lost} messages in its mailbox are lost", self.name);
            }
        }
        subscribers.retain(|subscriber| match subscriber {
            Subscriber::Here(peer) => peer.upgrade().inspect(|peer| peer.news(self.news(status.clone(), false))).is_some(),
            Subscriber::There { news, .. } => news.send_timeout(self.news(status.clone(), false), NEWS_PATIENCE).is_ok(),
        });
    }

    /// Which incarnation was launched last: 0 for the first.
    pub(crate) fn generation(&self) -> u64 {
        self.state().launches.saturating_sub(1)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.state().running.as_ref().map(|running| running.process.pid())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state().running.is_some()
    }

    /// How the last incarnation ended.
    pub(crate) fn previous(&self) -> Option<DownReason> {
        self.state().previous.clone()
    }

    /// Asks the incarnation to stop; with `drain`, after what its mailbox holds now.
    pub(crate) fn ask_to_stop(&self, drain: bool) {
        let door = self.state().running.as_ref().map(|running| running.door.clone());
        if let Some(door) = door {
            // One that takes nothing at all will be killed for that, by who waits for its end.
            let _ = door.send_timeout(Control::Stop { drain }, NEWS_PATIENCE);
        }
    }

    pub(crate) fn kill(&self) {
        if let Some(running) = &self.state().running {
            running.process.kill();
        }
    }

    fn kill_hung(&self, limit: Duration) {
        if let Some(running) = &mut self.state().running {
            running.hung = Some(limit);
            running.process.kill();
        }
    }

    /// Waits until no incarnation runs; whether that came in time.
    pub(crate) fn wait_end(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state();
        while state.running.is_some() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            state = sys::wait(&self.changed, state, deadline);
        }
        true
    }

    fn ended(self: &Arc<Post>, generation: u64, reason: DownReason, on_end: OnEnd) {
        let mut state = self.state();
        state.running = None;
        state.previous = Some(reason.clone());
        drop(state);
        self.changed.notify_all();
        on_end(self, generation, reason);
    }
}

/// Starts the next incarnation, and waits until its state is built.
pub(crate) fn launch<A: Actor>(
    post: &Arc<Post>,
    address: &ActorRef<A>,
    args: A::Args,
    plan: &Plan,
    on_end: OnEnd,
) -> Result<(), StartError> {
    let create = |source| StartError::Create {
        actor: post.name.clone(),
        source,
    };
    let (door, inbound) = channel::<Request<A::Message, A::Reply>>().map_err(create)?;
    let (reports, heard) = channel::<Report>().map_err(create)?;
    let (generation, previous, checkpoint) = {
        let mut state = post.state();
        state.launches += 1;
        (state.launches - 1, state.previous.clone(), state.checkpoint.clone())
    };
    let worker = ActorProcess::<A> {
        generation,
        previous,
        checkpoint,
        args,
        inbound,
        door: door.clone(),
        mailbox: post.mailbox.clone(),
        reports,
        address: address.clone(),
        redeliver: plan.redeliver,
    };
    let process = plan
        .process(&post.name, generation)
        .spawn(worker)
        .map_err(|source| StartError::Spawn {
            actor: post.name.clone(),
            source,
        })?;
    let process = Arc::new(process);
    if let Err(error) = wait_started(post, &process, &heard, plan.start_timeout) {
        if let StartError::Down { reason, .. } = &error {
            post.state().previous = Some(reason.clone());
        }
        return Err(error);
    }
    let running = Running {
        process: process.clone(),
        door: door.clone().retype(),
        hung: None,
    };
    post.state().running = Some(running.clone());
    let keeper = post.clone();
    let heartbeat = plan.heartbeat;
    let thread = sys::service_thread("offspring-keeper", move || {
        hear(&keeper, &running, &heard, heartbeat);
        let reason = reason(&keeper, &running.process);
        keeper.ended(generation, reason, on_end);
    });
    if let Err(source) = thread {
        process.kill();
        post.state().running = None;
        let act = "start a thread";
        return Err(create(CreateError::Io { act, source }));
    }
    post.publish(Status::Up {
        generation,
        door: door.retype(),
    });
    Ok(())
}

fn wait_started(post: &Post, process: &Process<Outcome>, heard: &Receiver<Report>, limit: Duration) -> Result<(), StartError> {
    let actor = || post.name.clone();
    let deadline = Instant::now().checked_add(limit);
    loop {
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        match heard.recv_timeout(left) {
            Ok(Report::Started(Ok(()))) => return Ok(()),
            Ok(Report::Started(Err(error))) => {
                // It ends by itself; a restart must not find its name in use.
                let _ = process.join();
                let reason = DownReason::Failed(error);
                return Err(StartError::Down { actor: actor(), reason });
            }
            Ok(Report::Checkpoint(checkpoint)) => post.state().checkpoint = Some(checkpoint),
            Ok(Report::Pong(_)) => {}
            Err(RecvTimeoutError::Timeout) => {
                process.kill();
                let _ = process.join();
                let after = limit;
                return Err(StartError::Timeout { actor: actor(), after });
            }
            Err(RecvTimeoutError::Failed(_)) => {
                let reason = end_of(process);
                return Err(StartError::Down { actor: actor(), reason });
            }
        }
    }
}

/// Hears an incarnation until it is gone.
fn hear(post: &Post, running: &Running, heard: &Receiver<Report>, heartbeat: Option<Duration>) {
    // When it was asked for a sign of life that it has not given.
    let mut asked: Option<Instant> = None;
    let mut number = 0;
    loop {
        // In between it is left alone: two questions within a limit find what has hung for that long.
        let left = heartbeat.map_or(Duration::MAX, |limit| {
            asked.map_or(limit / 2, |asked| (asked + limit).saturating_duration_since(Instant::now()))
        });
        match heard.recv_timeout(left) {
            Ok(Report::Checkpoint(checkpoint)) => post.state().checkpoint = Some(checkpoint),
            Ok(Report::Pong(_) | Report::Started(_)) => {}
            Err(RecvTimeoutError::Timeout) => {
                match (asked, heartbeat) {
                    (Some(_), Some(limit)) => post.kill_hung(limit),
                    _ => {
                        number += 1;
                        // If there is no room for the question, there is no answer either.
                        let _ = running.door.send_timeout(Control::Ping(number), Duration::ZERO);
                    }
                }
                asked = Some(Instant::now());
                continue;
            }
            Err(RecvTimeoutError::Failed(crate::error::RecvError::Decode(_))) => {}
            Err(RecvTimeoutError::Failed(_)) => return,
        }
        asked = None;
    }
}

fn reason(post: &Post, process: &Process<Outcome>) -> DownReason {
    let reason = end_of(process);
    let hung = post.state().running.as_ref().and_then(|running| running.hung);
    match (hung, &reason) {
        (Some(limit), DownReason::Died(ExitReason::Killed { .. } | ExitReason::Signaled { .. })) => DownReason::Hung { limit },
        _ => reason,
    }
}

/// How the process ended; waits for that.
fn end_of(process: &Process<Outcome>) -> DownReason {
    match process.join() {
        Ok(Outcome(ending)) => ending.into(),
        Err(JoinError::Ended { reason, .. }) => DownReason::Died(reason),
        Err(error) => DownReason::Failed(error.to_string()),
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("key", &self.key)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
