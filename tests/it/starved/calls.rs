//! The calls that need something. Each is complete: what it starts, it ends, and what it puts, it
//! takes.

use std::error::Error;
use std::time::Duration;

use offspring::actor::{ActorBuilder, ActorOwner, find};
use offspring::shared::{SharedBytes, SharedSlice};
use offspring::supervisor::{ChildSpec, Supervisor};
use offspring::sync::Mutex;
use offspring::{Pool, Queue, Receiver, Selector, Sender, channel};
use serde::{Deserialize, Serialize};

/// Longer than any wait that is not for what is short.
const LONG: Duration = Duration::from_secs(20);
/// How long a call waits for what may come only after the shortage.
const SHORT: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Call {
    Spawn,
    SpawnLarge,
    OwnQueue,
    OwnQueueLarge,
    OwnQueueHandle,
    OwnQueueBoth,
    Queue,
    QueueLarge,
    QueueHandle,
    QueueBoth,
    Channel,
    ChannelLarge,
    ChannelHandle,
    ChannelBoth,
    PoolBuild,
    PoolRun,
    PoolRunLarge,
    PoolRunHandle,
    ActorStart,
    ActorAsk,
    ActorCast,
    ActorName,
    ActorLink,
    LockMake,
    LockSend,
    SharedMake,
    SharedSend,
    Supervisor,
    Log,
    Selector,
}

pub(super) const CALLS: [Call; 30] = [
    Call::Spawn,
    Call::SpawnLarge,
    Call::OwnQueue,
    Call::OwnQueueLarge,
    Call::OwnQueueHandle,
    Call::OwnQueueBoth,
    Call::Queue,
    Call::QueueLarge,
    Call::QueueHandle,
    Call::QueueBoth,
    Call::Channel,
    Call::ChannelLarge,
    Call::ChannelHandle,
    Call::ChannelBoth,
    Call::PoolBuild,
    Call::PoolRun,
    Call::PoolRunLarge,
    Call::PoolRunHandle,
    Call::ActorStart,
    Call::ActorAsk,
    Call::ActorCast,
    Call::ActorName,
    Call::ActorLink,
    Call::LockMake,
    Call::LockSend,
    Call::SharedMake,
    Call::SharedSend,
    Call::Supervisor,
    Call::Log,
    Call::Selector,
];

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    bytes: Vec<u8>,
    handle: Option<Sender<u32>>,
}

impl Item {
    fn of(length: usize, handle: Option<Sender<u32>>) -> Item {
        Item { bytes: vec![7; length], handle }
    }
}

const SMALL: usize = 10;
const LARGE: usize = 300_000;

#[offspring::worker]
fn echo(item: Item) -> Item {
    item
}

#[offspring::worker]
fn echo_queue(items: Queue<Item>, back: Queue<Item>) {
    super::shortage::lift_inherited();
    while let Ok(item) = items.get() {
        back.put(item).unwrap();
    }
}

#[offspring::worker]
fn echo_channel(items: Receiver<Item>, back: Sender<Item>) {
    super::shortage::lift_inherited();
    for item in items {
        back.send(item).unwrap();
    }
}

#[offspring::worker]
fn add_to(locks: Receiver<Mutex<u64>>, done: Sender<u64>) {
    super::shortage::lift_inherited();
    for lock in locks {
        let mut value = lock.lock().unwrap();
        *value += 1;
        done.send(*value).unwrap();
    }
}

#[offspring::worker]
fn echo_shared(shared: Receiver<SharedBytes>, back: Sender<SharedBytes>) {
    super::shortage::lift_inherited();
    for bytes in shared {
        back.send(bytes).unwrap();
    }
}

#[offspring::worker]
fn write_records() {
    for n in 0..10 {
        log::warn!("{n}");
    }
}

struct Adder(u64);

#[offspring::actor]
impl Adder {
    fn start(value: u64) -> Self {
        Adder(value)
    }

    pub fn add(&mut self, n: u64) -> u64 {
        self.0 += n;
        self.0
    }

    #[cast]
    pub fn add_later(&mut self, n: u64) {
        self.0 += n;
    }
}

/// The names of actors are known in what is started after the first actor.
pub(super) fn first_actor() -> impl Sized {
    ActorBuilder::new().spawn::<Adder>((0,)).expect("nothing is short here")
}

type Outcome = Result<(), Box<dyn Error>>;

/// The objects that the calls reuse.
#[derive(Default)]
pub(super) struct Kit {
    own: Option<Queue<Item>>,
    queues: Option<(Queue<Item>, Queue<Item>)>,
    channels: Option<(Sender<Item>, Receiver<Item>)>,
    locks: Option<(Sender<Mutex<u64>>, Receiver<u64>)>,
    shared: Option<(Sender<SharedBytes>, Receiver<SharedBytes>)>,
    pool: Option<Pool>,
    actor: Option<ActorOwner<AdderHandle>>,
    selected: Option<(Sender<u32>, Receiver<u32>)>,
    /// Items that were accepted and have not come back.
    in_queue: usize,
    in_channel: usize,
    in_own: usize,
    in_locks: usize,
    in_shared: usize,
    in_selected: usize,
    casts: u64,
    sum: u64,
}

impl Kit {
    pub(super) fn attempt(&mut self, call: Call) -> Result<(), String> {
        self.run(call).map_err(|error| error.to_string())
    }

    fn run(&mut self, call: Call) -> Outcome {
        match call {
            Call::Spawn => Kit::spawn(Item::of(SMALL, None)),
            Call::SpawnLarge => Kit::spawn(Item::of(LARGE, None)),
            Call::OwnQueue => self.own_queue(Item::of(SMALL, None)),
            Call::OwnQueueLarge => self.own_queue(Item::of(LARGE, None)),
            Call::OwnQueueHandle => {
                let (sender, _receiver) = channel()?;
                self.own_queue(Item::of(SMALL, Some(sender)))
            }
            Call::OwnQueueBoth => {
                let (sender, _receiver) = channel()?;
                self.own_queue(Item::of(LARGE, Some(sender)))
            }
            Call::Queue => self.queue(Item::of(SMALL, None)),
            Call::QueueLarge => self.queue(Item::of(LARGE, None)),
            Call::QueueHandle => {
                let (sender, _receiver) = channel()?;
                self.queue(Item::of(SMALL, Some(sender)))
            }
            Call::QueueBoth => {
                let (sender, _receiver) = channel()?;
                self.queue(Item::of(LARGE, Some(sender)))
            }
            Call::Channel => self.channel(Item::of(SMALL, None)),
            Call::ChannelLarge => self.channel(Item::of(LARGE, None)),
            Call::ChannelHandle => {
                let (sender, _receiver) = channel()?;
                self.channel(Item::of(SMALL, Some(sender)))
            }
            Call::ChannelBoth => {
                let (sender, _receiver) = channel()?;
                self.channel(Item::of(LARGE, Some(sender)))
            }
            Call::PoolBuild => {
                let pool = Pool::new(3)?;
                pool.run(echo::new(Item::of(SMALL, None)))?;
                Ok(())
            }
            Call::PoolRun => self.pool(Item::of(SMALL, None)),
            Call::PoolRunLarge => self.pool(Item::of(LARGE, None)),
            Call::PoolRunHandle => {
                let (sender, _receiver) = channel()?;
                self.pool(Item::of(SMALL, Some(sender)))
            }
            Call::ActorStart => {
                let actor = ActorBuilder::new().spawn::<Adder>((0,))?;
                actor.stop();
                Ok(())
            }
            Call::ActorAsk => self.call(),
            Call::ActorCast => self.cast(),
            Call::ActorName => {
                let name = format!("adder of {}", std::process::id());
                let actor = ActorBuilder::new().register(&name).spawn::<Adder>((0,))?;
                let found = find::<Adder>(&name).map(drop);
                actor.stop();
                Ok(found?)
            }
            Call::ActorLink => {
                self.actor()?;
                drop(self.actor.as_ref().unwrap().link()?);
                // The actor does not fail with a link that was not made.
                self.call()
            }
            Call::LockMake => {
                let lock = Mutex::new(5u64)?;
                assert_eq!(*lock.lock().map_err(|error| error.to_string())?, 5);
                Ok(())
            }
            Call::LockSend => self.lock(),
            Call::SharedMake => {
                assert_eq!(SharedBytes::copy_from(&[7; LARGE])?[LARGE - 1], 7);
                SharedSlice::<u8>::zeroed(LARGE)?.fill(1);
                Ok(())
            }
            Call::SharedSend => self.shared(),
            Call::Supervisor => {
                let spec = ChildSpec::worker_with("echo", |_| write_records::new());
                let supervisor = Supervisor::builder().child(spec).start()?;
                supervisor.stop();
                Ok(())
            }
            Call::Log => {
                log::set_max_level(log::LevelFilter::Warn);
                write_records::spawn()?.join()?;
                Ok(())
            }
            Call::Selector => self.select(),
        }
    }

    fn spawn(item: Item) -> Outcome {
        let child = echo::spawn(item)?;
        let joined = child.join_timeout(LONG);
        assert!(!joined.as_ref().is_err_and(|error| error.is_timeout()), "a join never ends");
        joined?;
        Ok(())
    }

    fn own_queue(&mut self, item: Item) -> Outcome {
        if self.own.is_none() {
            self.own = Some(Queue::unbounded()?);
        }
        let queue = self.own.as_ref().unwrap();
        queue.put(item)?;
        self.in_own += 1;
        queue.get_timeout(SHORT)?;
        self.in_own -= 1;
        Ok(())
    }

    fn queue(&mut self, item: Item) -> Outcome {
        if self.queues.is_none() {
            let (items, back) = (Queue::unbounded()?, Queue::unbounded()?);
            let _echo = echo_queue::spawn(items.clone(), back.clone())?;
            self.queues = Some((items, back));
        }
        let (items, back) = self.queues.as_ref().unwrap();
        items.put_timeout(item, LONG)?;
        self.in_queue += 1;
        while self.in_queue > 0 {
            back.get_timeout(SHORT * 20)?;
            self.in_queue -= 1;
        }
        Ok(())
    }

    fn channel(&mut self, item: Item) -> Outcome {
        if self.channels.is_none() {
            let ((to, items), (back, from)) = (channel()?, channel()?);
            let _echo = echo_channel::spawn(items, back)?;
            self.channels = Some((to, from));
        }
        let (to, from) = self.channels.as_ref().unwrap();
        to.send_timeout(item, LONG)?;
        self.in_channel += 1;
        while self.in_channel > 0 {
            from.recv_timeout(SHORT * 20)?;
            self.in_channel -= 1;
        }
        Ok(())
    }

    fn pool(&mut self, item: Item) -> Outcome {
        if self.pool.is_none() {
            self.pool = Some(Pool::new(2)?);
        }
        let pool = self.pool.as_ref().unwrap();
        let tasks = [pool.submit(echo::new(item.clone()))?, pool.submit(echo::new(item))?];
        let outputs = tasks.map(|task| task.join_timeout(LONG));
        for output in outputs {
            assert!(!output.as_ref().is_err_and(|error| error.is_timeout()), "a task never ends");
            output?;
        }
        Ok(())
    }

    fn actor(&mut self) -> Outcome {
        if self.actor.is_none() {
            let actor = ActorBuilder::new().spawn::<Adder>((0,))?;
            self.actor = Some(actor.typed());
        }
        Ok(())
    }

    fn call(&mut self) -> Outcome {
        self.actor()?;
        let sum = self.actor.as_ref().unwrap().add(1)?;
        // A call without an answer may have been handled.
        assert!(sum > self.sum, "{sum}");
        self.sum = sum;
        Ok(())
    }

    fn cast(&mut self) -> Outcome {
        self.actor()?;
        self.actor.as_ref().unwrap().add_later(1)?;
        self.casts += 1;
        Ok(())
    }

    fn lock(&mut self) -> Outcome {
        if self.locks.is_none() {
            let ((to, locks), (done, from)) = (channel()?, channel()?);
            let _adds = add_to::spawn(locks, done)?;
            self.locks = Some((to, from));
        }
        let (to, from) = self.locks.as_ref().unwrap();
        let lock = Mutex::new(0u64)?;
        to.send_timeout(lock.clone(), LONG)?;
        self.in_locks += 1;
        let value = from.recv_timeout(SHORT * 20)?;
        self.in_locks -= 1;
        let own = lock.lock().map(|own| *own).map_err(|error| error.to_string())?;
        assert_eq!((value, own), (1, 1));
        Ok(())
    }

    fn shared(&mut self) -> Outcome {
        if self.shared.is_none() {
            let ((to, shared), (back, from)) = (channel()?, channel()?);
            let _echo = echo_shared::spawn(shared, back)?;
            self.shared = Some((to, from));
        }
        let (to, from) = self.shared.as_ref().unwrap();
        to.send_timeout(SharedBytes::copy_from(&[7; LARGE])?, LONG)?;
        self.in_shared += 1;
        let bytes = from.recv_timeout(SHORT * 20)?;
        self.in_shared -= 1;
        assert_eq!((bytes.len(), bytes[LARGE - 1]), (LARGE, 7));
        Ok(())
    }

    fn select(&mut self) -> Outcome {
        if self.selected.is_none() {
            self.selected = Some(channel()?);
        }
        let (sender, receiver) = self.selected.as_ref().unwrap();
        let selector = Selector::new();
        let key = selector.add(receiver)?;
        assert_eq!(selector.ready_timeout(Duration::from_millis(1)), None);
        sender.send(1)?;
        self.in_selected += 1;
        if selector.ready_timeout(SHORT * 20) != Some(key) {
            return Err("what was sent does not come".into());
        }
        receiver.recv()?;
        self.in_selected -= 1;
        Ok(())
    }

    /// After the shortage: all that was accepted comes.
    pub(super) fn take_what_was_accepted(&mut self) {
        if let Some(queue) = &self.own {
            (0..self.in_own).for_each(|_| drop(queue.get_timeout(LONG).expect("an own item")));
        }
        if let Some((_, back)) = &self.queues {
            (0..self.in_queue).for_each(|_| drop(back.get_timeout(LONG).expect("an item")));
        }
        if let Some((_, from)) = &self.channels {
            (0..self.in_channel).for_each(|_| drop(from.recv_timeout(LONG).expect("a message")));
        }
        if let Some((_, from)) = &self.locks {
            assert!((0..self.in_locks).all(|_| from.recv_timeout(LONG).is_ok()), "a change");
        }
        if let Some((_, from)) = &self.shared {
            assert!((0..self.in_shared).all(|_| from.recv_timeout(LONG).is_ok()), "shared bytes");
        }
        if let Some((_, receiver)) = &self.selected {
            assert!((0..self.in_selected).all(|_| receiver.recv_timeout(LONG).is_ok()), "a word");
        }
        (self.in_own, self.in_queue, self.in_channel) = (0, 0, 0);
        (self.in_locks, self.in_shared, self.in_selected) = (0, 0, 0);
        if let (Some(actor), true) = (&self.actor, self.casts > 0) {
            assert_eq!(actor.add(0).expect("the actor lives"), self.casts);
        }
    }
}
