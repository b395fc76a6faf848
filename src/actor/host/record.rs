//! The keeper's side of an actor: its mailbox, its present incarnation, who wants to know of it.
//!
//! A [`Post`] outlives the incarnations. Each of them has a process, a channel for direct calls, and a thread here that
//! hears its reports until it ends, and then why. Whether there will be another one is decided by who launched it (`on_end`):
//! until that is said by [`Post::publish`], clients of the dead incarnation wait for the word.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crate::actor::client::peers::Peer;
use crate::actor::protocol::{ActorKey, Blob, Erased, News, Request, Status};
use crate::actor::worker::incarnation::ActorExit;
use crate::channel::Sender;
use crate::error::{CreateError, DownReason};
use crate::process::Process;
use crate::queue::{JoinableQueue, QueueKind};
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

impl State {
    fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Whether nobody has said yet what becomes of the actor after this incarnation.
    fn is_open(&self, generation: u64) -> bool {
        match self.status {
            Status::Up { generation: up, .. } => up == generation,
            Status::Starting => self.launches == generation + 1,
            Status::Restarting { .. } | Status::Down { .. } => false,
        }
    }
}

#[derive(Clone, Debug)]
pub(in crate::actor) struct Running {
    pub(in crate::actor) process: Arc<Process<ActorExit>>,
    pub(in crate::actor) door: Sender<Request>,
    /// It missed this limit, and was killed for it.
    hung: Option<Duration>,
}

impl Running {
    pub(in crate::actor) fn new(
        process: Arc<Process<ActorExit>>,
        door: Sender<Request>,
    ) -> Running {
        let hung = None;
        Running {
            process,
            door,
            hung,
        }
    }
}

/// What an incarnation is told of those before it.
pub(in crate::actor) struct Before {
    pub(in crate::actor) generation: u64,
    pub(in crate::actor) previous: Option<DownReason>,
    pub(in crate::actor) checkpoint: Option<Blob>,
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
            .kind(QueueKind::Mailbox)
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

    fn news(&self, status: Status, mailbox: bool) -> News {
        News {
            key: self.key,
            status,
            mailbox: mailbox.then(|| self.mailbox.clone()),
        }
    }

    pub(in crate::actor) fn subscribe_here(&self, peer: &Arc<dyn Peer>) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(
            |subscriber| !matches!(subscriber, Subscriber::Here(peer) if peer.strong_count() == 0),
        );
        subscribers.push(Subscriber::Here(Arc::downgrade(peer)));
        let status = self.state().status.clone();
        peer.news(self.news(status, true));
    }

    pub(in crate::actor) fn subscribe_there(&self, client: u64, news: Sender<News>, mailbox: bool) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| !matches!(subscriber, Subscriber::There { client: old, .. } if *old == client));
        let status = self.state().status.clone();
        if news
            .send_timeout(self.news(status, mailbox), NEWS_PATIENCE)
            .is_ok()
        {
            subscribers.push(Subscriber::There { client, news });
        }
    }

    /// From now on this is how the actor is; all who asked are told, in the order of the changes.
    pub(crate) fn publish(&self, status: Status) {
        self.publish_if(status, |_| true);
    }

    fn publish_if(&self, status: Status, holds: impl FnOnce(&State) -> bool) {
        let mut subscribers = lock(&self.subscribers);
        let mut state = self.state();
        if !holds(&state) {
            return;
        }
        state.status = status.clone();
        drop(state);
        self.changed.notify_all();
        if matches!(status, Status::Down { .. }) {
            // What lies there ends here, such as senders that others wait on.
            let lost = self.mailbox.close_and_discard().unwrap_or(0);
            if lost > 0 {
                log::warn!(target: "offspring::actor", "actor `{}` is down: {lost} messages in its mailbox are lost", self.name);
            }
        }
        subscribers.retain(|subscriber| match subscriber {
            Subscriber::Here(peer) => peer
                .upgrade()
                .inspect(|peer| peer.news(self.news(status.clone(), false)))
                .is_some(),
            Subscriber::There { news, .. } => news
                .send_timeout(self.news(status.clone(), false), NEWS_PATIENCE)
                .is_ok(),
        });
    }

    /// The incarnation has ended, and there is to be another. So clients are told if nobody has said better within `patience`: who
    /// decides may be busy for long.
    pub(crate) fn restarts_unless_told(
        &self,
        generation: u64,
        reason: DownReason,
        patience: Duration,
    ) {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while state.is_open(generation) && Instant::now() < deadline {
            state = sys::wait(&self.changed, state, Some(deadline));
        }
        drop(state);
        self.publish_if(Status::Restarting { generation, reason }, |state| {
            state.is_open(generation)
        });
    }

    /// It is up, unless it has ended already: what is known of its end must not be followed by this.
    pub(in crate::actor) fn publish_up(&self, generation: u64, door: Sender<Erased>) {
        let status = Status::Up { generation, door };
        self.publish_if(status, State::runs);
    }

    /// Which incarnation was launched last: 0 for the first.
    pub(crate) fn generation(&self) -> u64 {
        self.state().launches.saturating_sub(1)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.state()
            .running
            .as_ref()
            .map(|running| running.process.pid())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state().runs()
    }

    /// How the last incarnation ended.
    pub(crate) fn previous(&self) -> Option<DownReason> {
        self.state().previous.clone()
    }

    /// Asks the incarnation to stop; with `drain`, after what its mailbox holds now. Waits until `deadline` for room to ask in: who
    /// takes nothing until then will be killed for that, by who waits for its end.
    pub(crate) fn ask_to_stop(&self, drain: bool, deadline: Option<Instant>) {
        let door = self
            .state()
            .running
            .as_ref()
            .map(|running| running.door.clone());
        if let Some(door) = door {
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            // One that is gone needs not be asked.
            let _ = door.send_timeout(Request::Stop { drain }, left);
        }
    }

    /// As [`ask_to_stop`](Post::ask_to_stop), for who must not wait.
    pub(crate) fn ask_to_stop_soon(&self) {
        self.ask_to_stop(true, Instant::now().checked_add(NEWS_PATIENCE));
    }

    pub(crate) fn kill(&self) {
        if let Some(running) = &self.state().running {
            running.process.kill();
        }
    }

    /// One more is launched.
    pub(in crate::actor) fn next_incarnation(&self) -> Before {
        let mut state = self.state();
        state.launches += 1;
        Before {
            generation: state.launches - 1,
            previous: state.previous.clone(),
            checkpoint: state.checkpoint.clone(),
        }
    }

    pub(in crate::actor) fn runs(&self, running: Option<Running>) {
        self.state().running = running;
    }

    pub(in crate::actor) fn keep_checkpoint(&self, checkpoint: Blob) {
        self.state().checkpoint = Some(checkpoint);
    }

    /// The limit that it missed and was killed for.
    pub(in crate::actor) fn hung(&self) -> Option<Duration> {
        self.state()
            .running
            .as_ref()
            .and_then(|running| running.hung)
    }

    pub(in crate::actor) fn kill_hung(&self, limit: Duration) {
        if let Some(running) = &mut self.state().running {
            running.hung = Some(limit);
            running.process.kill();
        }
    }

    /// Waits until no incarnation runs; whether that came in time.
    pub(crate) fn wait_end(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state();
        while state.runs() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            state = sys::wait(&self.changed, state, deadline);
        }
        true
    }

    /// How an incarnation ended that was not up.
    pub(in crate::actor) fn ended_by(&self, reason: &DownReason) {
        self.state().previous = Some(reason.clone());
    }

    pub(in crate::actor) fn ended(
        self: &Arc<Post>,
        generation: u64,
        reason: DownReason,
        on_end: OnEnd,
    ) {
        let mut state = self.state();
        state.running = None;
        state.previous = Some(reason.clone());
        drop(state);
        self.changed.notify_all();
        on_end(self, generation, reason);
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
