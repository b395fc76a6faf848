//! serde's attributes: a type that JSON carries is carried by everything of this crate. Where that
//! cannot be, the sender gets the error.

mod types;

use std::fmt::Debug;

use offspring::channel::SendError;
use offspring::queue::{GetError, PutError};
use offspring::supervisor::{ChildSpec, Supervisor};
use offspring::sync::{Mutex, RwLock};
use offspring::{JoinableQueue, Pool, Queue, Receiver, Sender, channel, pipe};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use types::*;

/// Puts random values into a queue, and compares what comes out with them and with what JSON makes
/// of them.
fn compare<T>(random: &mut Random)
where
    T: Make + Serialize + DeserializeOwned + Debug + PartialEq + Clone,
{
    let name = std::any::type_name::<T>();
    let queue = Queue::<T>::unbounded().unwrap();
    for _ in 0..40 {
        let value = T::make(random);
        let json = serde_json::to_string(&value).ok();
        let json = json.and_then(|json| serde_json::from_str::<T>(&json).ok());
        match queue.put(value.clone()) {
            Ok(()) => {
                let back =
                    queue.get().unwrap_or_else(|error| panic!("{name}: {error:?}: {value:?}"));
                assert!(
                    back == value || Some(&back) == json.as_ref(),
                    "{name}: {value:?} is {back:?}"
                );
            }
            Err(PutError::Encode(_, error)) => {
                assert!(json.as_ref() != Some(&value), "{name}: {error}: {value:?}");
            }
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
}

macro_rules! compare_all {
    ($random:ident: $($type:ty)+) => {
        $(
            compare::<$type>($random);
            compare::<Vec<Option<$type>>>($random);
            compare::<Result<(u8, $type), String>>($random);
            compare::<(std::collections::BTreeMap<String, $type>, u8)>($random);
        )+
    };
}

#[offspring::test(timeout = "120s")]
fn what_json_carries_comes_back() {
    let seed = std::env::var("OFFSPRING_TYPES_SEED").ok().and_then(|seed| seed.parse().ok());
    let random = &mut Random::of(seed.unwrap_or(0x9e37_79b9_7f4a_7c15));
    compare_all! { random:
        Plain External Internal Event Adjacent AdjacentStrict Untagged Deeper Flat FlatEnum FlatOption
        Optional OptionalVariant Renamed Defaults Strict With Converted Percent Percents Remotes Keys
        Odd Standard InternalStandard Json Transparent Newer WithOther Expression Skipped Tuple
        SkippedWithDefault OnlyWritten OldFirst SkippedVariant Bytes Nan serde_json::Value
    }
}

/// One of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    events: Vec<Event>,
    internal: Internal,
    adjacent: Adjacent,
    deeper: Deeper,
    flat: Flat,
    optional: Optional,
    json: serde_json::Value,
    expression: Expression,
    variants: Vec<SkippedVariant>,
    odd: Odd,
}

fn everything(seed: u64) -> Everything {
    let random = &mut Random::of(seed);
    Everything {
        events: Make::make(random),
        internal: Make::make(random),
        adjacent: Make::make(random),
        deeper: Make::make(random),
        flat: Make::make(random),
        optional: Make::make(random),
        json: Make::make(random),
        expression: Make::make(random),
        variants: Make::make(random),
        odd: Make::make(random),
    }
}

fn some() -> Vec<Everything> {
    (1..=8).map(everything).collect()
}

#[offspring::worker]
fn mirror(value: Everything) -> Everything {
    value
}

#[offspring::worker]
fn forward(from: Queue<Everything>, to: Sender<Everything>) {
    for item in &from {
        to.send(item).expect("the test receives");
    }
}

#[offspring::worker]
fn finish(from: JoinableQueue<Everything>, to: Queue<Everything>) {
    for item in &from {
        to.put(item.clone()).expect("the test gets");
        item.task_done();
    }
}

#[offspring::worker]
fn echo(connection: offspring::Connection<Everything, Everything>) {
    while let Ok(value) = connection.recv() {
        connection.send(value).expect("the test receives");
    }
}

#[offspring::worker]
fn copy(
    from: Mutex<Everything, offspring::sync::Encoded>,
    to: RwLock<Everything, offspring::sync::Encoded>,
) {
    *to.write().expect("it is sound") = from.lock().expect("it is sound").clone();
}

#[offspring::worker]
fn report(value: Everything, to: Sender<Everything>) {
    to.send(value).expect("the test receives");
}

struct Keeper(Vec<Everything>);

#[offspring::actor]
impl Keeper {
    fn start() -> Keeper {
        Keeper(Vec::new())
    }

    pub fn keep(&mut self, value: Everything) -> Everything {
        self.0.push(value.clone());
        value
    }

    pub fn all(&self) -> Vec<Everything> {
        self.0.clone()
    }
}

#[offspring::test(timeout = "60s")]
fn everything_crosses_in_every_way() {
    // A field, an output.
    for value in some() {
        assert_eq!(mirror::spawn(value.clone()).unwrap().join().unwrap(), value);
    }
    // Queues and channels.
    let (items, (sender, receiver)) = (Queue::unbounded().unwrap(), channel().unwrap());
    items.put_all(some()).unwrap();
    items.put(everything(1)).unwrap();
    items.close().unwrap();
    let process = forward::spawn(items, sender).unwrap();
    assert!(receiver.iter().eq(some().into_iter().chain([everything(1)])));
    process.join().unwrap();
    let (jobs, done) = (JoinableQueue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let process = finish::spawn(jobs.clone(), done.clone()).unwrap();
    some().into_iter().for_each(|value| jobs.put(value).unwrap());
    jobs.join().unwrap();
    jobs.close().unwrap();
    process.join().unwrap();
    assert!(done.iter().take(8).eq(some()));
    let (here, there) = pipe().unwrap();
    let process = echo::spawn(there).unwrap();
    for value in some() {
        here.send(value.clone()).unwrap();
        assert_eq!(here.recv().unwrap(), value);
    }
    drop(here);
    process.join().unwrap();
    // Tasks.
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.submit(mirror::new(everything(1))).unwrap().join().unwrap(), everything(1));
    let outputs: Result<Vec<_>, _> = pool.map(some(), mirror::new).collect();
    assert_eq!(outputs.unwrap(), some());
    // Locks.
    let from = Mutex::encoded(everything(1)).unwrap();
    let to = RwLock::encoded_within(everything(2), 1 << 16).unwrap();
    copy::spawn(from, to.clone()).unwrap().join().unwrap();
    assert_eq!(*to.read().unwrap(), everything(1));
    // Supervised workers.
    let (sender, receiver) = channel().unwrap();
    let child =
        ChildSpec::worker_with("reports", move |_| report::new(everything(3), sender.clone()));
    let supervisor =
        Supervisor::builder().child(child.restart(offspring::supervisor::Restart::Temporary));
    let supervisor = supervisor.start().unwrap();
    assert_eq!(receiver.recv().unwrap(), everything(3));
    supervisor.stop();
}

#[offspring::test(timeout = "60s")]
fn everything_crosses_in_calls() {
    let keeper = Keeper::spawn().unwrap();
    for value in some() {
        assert_eq!(keeper.keep(value.clone()).unwrap(), value);
    }
    assert_eq!(keeper.all().unwrap(), some());
}

#[offspring::test(timeout = "20s")]
fn dead_letters_keep_what_is_in_them() {
    let jobs = JoinableQueue::builder().max_deliveries(1).build().unwrap();
    jobs.put(everything(4)).unwrap();
    drop(jobs.get().unwrap());
    let letter = jobs.dead_letters().unwrap().remove(0);
    assert_eq!(letter.decode().unwrap(), everything(4));
    letter.redeliver().unwrap();
    assert_eq!(jobs.get().unwrap().into_inner(), everything(4));
}

#[offspring::test(timeout = "20s")]
fn what_cannot_be_decoded_is_an_error_of_the_sender() {
    let queue = Queue::unbounded().unwrap();
    match queue.put(OldFirst::Old) {
        Err(PutError::Encode(OldFirst::Old, error)) => {
            assert!(error.to_string().contains("unknown variant `Old`"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    queue.put(OldFirst::Newer).unwrap();
    assert_eq!(queue.get().unwrap(), OldFirst::Newer);
    let (sender, receiver) = channel().unwrap();
    assert!(matches!(sender.send(OldFirst::Old), Err(SendError::Encode(OldFirst::Old, _))));
    sender.send(OldFirst::New).unwrap();
    assert_eq!(receiver.recv().unwrap(), OldFirst::New);
}

/// Handles where serde buffers what it reads.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Attach { replies: Sender<u8>, name: String },
    Give(Box<Given>),
    Plain { n: u8 },
}

#[derive(Serialize, Deserialize)]
struct Given {
    numbers: Receiver<u8>,
    queue: Queue<u8>,
    lock: Mutex<u8>,
    #[serde(flatten)]
    more: std::collections::BTreeMap<String, u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Guessed {
    First { replies: Sender<u8>, queue: Queue<u8>, lock: Mutex<u8>, number: u8 },
    Second { replies: Sender<u8>, queue: Queue<u8>, lock: Mutex<u8>, text: String },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum GuessedReceiver {
    First { numbers: Receiver<u8>, number: u8 },
    Second { numbers: Receiver<u8>, text: String },
}

#[offspring::worker]
fn answer(messages: Queue<Tagged>) -> u8 {
    let mut sum = 0;
    for message in &messages {
        match message {
            Tagged::Attach { replies, name } => replies.send(name.len() as u8).expect("it waits"),
            Tagged::Plain { n } => sum += n,
            Tagged::Give(given) => {
                sum += given.numbers.iter().sum::<u8>();
                *given.lock.lock().expect("it is sound") += given.more["more"];
                given.queue.put(sum).expect("it is there");
            }
        }
    }
    sum
}

#[offspring::test(timeout = "20s")]
fn handles_in_tagged_enums_arrive() {
    let messages = Queue::unbounded().unwrap();
    let process = answer::spawn(messages.clone()).unwrap();
    let ((replies, reply), (numbers, there)) = (channel().unwrap(), channel().unwrap());
    let (queue, lock) = (Queue::unbounded().unwrap(), Mutex::new(1).unwrap());
    messages.put(Tagged::Plain { n: 1 }).unwrap();
    messages.put(Tagged::Attach { replies, name: "three".to_owned() }).unwrap();
    assert_eq!(reply.recv().unwrap(), 5);
    assert!(reply.recv().unwrap_err().is_end(), "no other sender is left");
    let more = [("more".to_owned(), 6)].into();
    let given = Given { numbers: there, queue: queue.clone(), lock: lock.clone(), more };
    messages.put(Tagged::Give(Box::new(given))).unwrap();
    numbers.send(7).unwrap();
    drop(numbers);
    assert_eq!(queue.get().unwrap(), 8);
    assert_eq!(*lock.lock().unwrap(), 7);
    messages.close().unwrap();
    assert_eq!(process.join().unwrap(), 8);
}

#[offspring::worker]
fn answer_guessed(guessed: Guessed) {
    match guessed {
        Guessed::First { .. } => panic!("it has no number"),
        Guessed::Second { replies, queue, lock, text } => {
            *lock.lock().expect("it is sound") += 1;
            queue.put(2).expect("it is there");
            replies.send(text.len() as u8).expect("it waits");
        }
    }
}

#[offspring::test(timeout = "20s")]
fn handles_in_untagged_enums_are_tried_in_each_variant() {
    let (queue, lock) = (Queue::unbounded().unwrap(), Mutex::new(0).unwrap());
    let (replies, reply) = channel().unwrap();
    let text = "text".to_owned();
    let guessed = Guessed::Second { replies, queue: queue.clone(), lock: lock.clone(), text };
    answer_guessed::spawn(guessed).unwrap().join().unwrap();
    assert_eq!((reply.recv().unwrap(), queue.get().unwrap(), *lock.lock().unwrap()), (4, 2, 1));
    assert!(reply.recv().unwrap_err().is_end(), "no other sender is left");

    // A receiving end exists once.
    let queue = Queue::unbounded().unwrap();
    let (sender, numbers) = channel().unwrap();
    queue.put(GuessedReceiver::First { numbers, number: 7 }).unwrap();
    let Ok(GuessedReceiver::First { numbers, number }) = queue.get() else { panic!() };
    sender.send(number).unwrap();
    assert_eq!(numbers.recv().unwrap(), 7);
    match queue.put(GuessedReceiver::Second { numbers, text: "text".to_owned() }) {
        Err(PutError::Encode(GuessedReceiver::Second { numbers, .. }, error)) => {
            assert!(error.to_string().contains("untagged"), "{error}");
            sender.send(9).unwrap();
            assert_eq!(numbers.recv().unwrap(), 9);
        }
        other => panic!("{:?}", other.is_ok()),
    }
}

/// Checks its values, so that it does not accept made-up ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Checked(String);

impl TryFrom<String> for Checked {
    type Error = String;

    fn try_from(text: String) -> Result<Checked, String> {
        if text.starts_with("ok") { Ok(Checked(text)) } else { Err("it is not ok".to_owned()) }
    }
}

impl From<Checked> for String {
    fn from(checked: Checked) -> String {
        checked.0
    }
}

#[offspring::test(timeout = "20s")]
fn types_that_check_their_values_cross() {
    let queue = Queue::unbounded().unwrap();
    let value = (Some(Checked("ok".to_owned())), vec![1.5f64, 2.5], vec![1u8, 2, 3], vec![0.5f32]);
    queue.put(value.clone()).unwrap();
    assert_eq!(queue.get().unwrap(), value);
    queue.put((Some(Checked("no".to_owned())), vec![], vec![], vec![])).unwrap();
    assert!(matches!(queue.get(), Err(GetError::Decode(_))));
}

/// Panics for all values but one.
#[derive(Debug, PartialEq, Serialize)]
struct Panics(u32);

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Panics, D::Error> {
        match u32::deserialize(deserializer)? {
            7 => Ok(Panics(7)),
            other => panic!("{other} is not 7"),
        }
    }
}

#[offspring::test(timeout = "20s")]
fn a_type_whose_decoding_panics_crosses() {
    let queue = Queue::unbounded().unwrap();
    queue.put(Panics(7)).unwrap();
    assert_eq!(queue.get().unwrap(), Panics(7));
    queue.put(Panics(8)).unwrap();
    assert!(matches!(queue.get(), Err(GetError::Decode(_))));
}
