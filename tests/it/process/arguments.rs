//! Worker values and outputs on their way.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use ipc_channel::{IpcError, TryRecvError};
use offspring::{
    JoinError, ProcessBuilder, ProcessWorker, Receiver, Sender, SpawnError, Stdio, Worker, channel,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::stage::{Census, answer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Worker)]
struct Shapes {
    unit: (),
    option: Option<Box<Shapes>>,
    map: BTreeMap<String, Vec<i64>>,
    text: String,
    float: f64,
    big: u128,
    character: char,
    result: Result<u8, String>,
}

impl ProcessWorker for Shapes {
    type Output = Shapes;
    fn run(self) -> Shapes {
        self
    }
}

#[offspring::test(timeout = "20s")]
fn values_of_every_shape_arrive_equal() {
    let inner = Shapes {
        unit: (),
        option: None,
        map: BTreeMap::from([
            (String::new(), vec![]),
            ("é".to_owned(), vec![i64::MIN, -1, i64::MAX]),
        ]),
        text: "a\0b\n".to_owned(),
        float: -0.5,
        big: u128::MAX,
        character: '\u{10FFFF}',
        result: Err("no".to_owned()),
    };
    let outer = Shapes { option: Some(Box::new(inner.clone())), result: Ok(1), ..inner };
    assert_eq!(outer.clone().spawn().unwrap().join().unwrap(), outer);
}

#[derive(Serialize, Deserialize, Worker)]
struct Unit;

impl ProcessWorker for Unit {
    type Output = ();
    fn run(self) {}
}

#[offspring::test(timeout = "20s")]
fn a_worker_without_fields_runs() {
    Unit.spawn().unwrap().join().unwrap();
}

#[offspring::worker]
fn back(text: String) -> String {
    text
}

/// Sizes around those at which the way changes: in a message of the control socket, in a message of
/// a channel, as shared memory, and far beyond.
#[offspring::test(timeout = "20s")]
fn arguments_and_outputs_of_every_size_arrive_whole() {
    for size in [
        0,
        1,
        (16 << 10) - 2,
        (16 << 10) - 1,
        (32 << 10) - 3,
        (32 << 10) - 2,
        212_448,
        1 << 20,
        50 << 20,
    ] {
        let text: String = "0123456789ab\n".chars().cycle().take(size).collect();
        assert!(back::spawn(text.clone()).unwrap().join().unwrap() == text, "{size}");
    }
}

/// Fails to encode, in the way that `how` names, after a handle was encoded.
#[derive(Serialize, Deserialize, Worker)]
struct Refuses {
    raw: Option<IpcSender<u8>>,
    own: Option<Sender<u8>>,
    how: Refusal,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Refusal {
    Error,
    Panic,
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match self {
            Refusal::Error => Err(serde::ser::Error::custom("not this one")),
            Refusal::Panic => panic!("dropped the pen"),
        }
    }
}

impl ProcessWorker for Refuses {
    type Output = ();
    fn run(self) {}
}

/// Returns the leaks, and whether each receiver saw the end of its sender.
#[offspring::worker]
fn start_what_does_not_encode() -> Result<Vec<String>, String> {
    answer::spawn().unwrap().join().unwrap();
    let refuses = |how, raw, own| Refuses { raw, own, how }.spawn().unwrap_err();
    // The channel that raw handles are dropped with is made once.
    refuses(Refusal::Error, None, None);
    let mut errors = Vec::new();
    for how in [Refusal::Error, Refusal::Panic] {
        let before = Census::take();
        let (raw, raw_receiver) = ipc::channel().unwrap();
        let (own, own_receiver) = channel().unwrap();
        let error = refuses(how, Some(raw), Some(own));
        // A handle that was left over would travel with this one.
        let next = answer::spawn().unwrap();
        match raw_receiver.try_recv() {
            Err(TryRecvError::IpcError(IpcError::Disconnected)) => {}
            other => return Err(format!("the raw sender lives: {other:?}")),
        }
        match own_receiver.recv_timeout(Duration::from_secs(5)) {
            Err(error) if !error.is_timeout() => {}
            other => return Err(format!("our sender lives: {other:?}")),
        }
        next.join().unwrap();
        drop((next, raw_receiver, own_receiver));
        let after = Census::take();
        if after != before {
            return Err(format!("{before:?} became {after:?}"));
        }
        errors.push(error.to_string());
        if !matches!(error, SpawnError::Encode(_)) {
            return Err(format!("{error:?}"));
        }
    }
    Ok(errors)
}

#[offspring::test(timeout = "20s")]
fn a_worker_that_does_not_encode_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let stage = ProcessBuilder::new().env("TMPDIR", directory.path());
    let errors = stage.spawn(start_what_does_not_encode::new()).unwrap().join().unwrap().unwrap();
    assert!(errors[0].contains("Refuses"), "{errors:?}");
    assert!(errors[1].contains("Refuses") && errors[1].contains("dropped the pen"), "{errors:?}");
}

/// Encodes, but does not decode.
#[derive(Serialize, Worker)]
struct Undecodable {
    message: String,
}

impl<'de> Deserialize<'de> for Undecodable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            message: String,
        }
        let Fields { message } = Fields::deserialize(deserializer)?;
        panic!("{message}")
    }
}

impl ProcessWorker for Undecodable {
    type Output = ();
    fn run(self) {}
}

#[offspring::test(timeout = "20s")]
fn a_worker_that_does_not_decode_says_so_to_its_parent() {
    for message in ["short".to_owned(), "é".repeat(100_000)] {
        let error = Undecodable { message }.spawn().unwrap_err();
        assert!(matches!(error, SpawnError::Decode { .. }), "{error:?}");
        assert!(error.to_string().contains("Undecodable"), "{error}");
        assert!(error.to_string().contains("Deserialize panicked: "), "{error}");
    }
}

/// Claims to be shorter than it is.
#[derive(Deserialize, Worker)]
struct Shorter {}

impl Serialize for Shorter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (1u8, 2u8).serialize(serializer)
    }
}

impl ProcessWorker for Shorter {
    type Output = ();
    fn run(self) {}
}

#[offspring::test(timeout = "20s")]
fn bytes_left_over_are_an_error_of_the_start() {
    let error = Shorter {}.spawn().unwrap_err();
    assert!(
        matches!(error, SpawnError::Decode { .. }) && error.to_string().contains("left over"),
        "{error}"
    );
}

#[offspring::worker]
fn send_to_all(senders: Vec<Sender<usize>>) {
    for (n, sender) in senders.into_iter().enumerate() {
        sender.send(n).unwrap();
    }
}

#[offspring::worker]
fn send_to_all_raw(senders: Vec<IpcSender<usize>>) {
    for (n, sender) in senders.into_iter().enumerate() {
        sender.send(n).unwrap();
    }
}

fn channels(count: usize) -> (Vec<Sender<usize>>, Vec<Receiver<usize>>) {
    (0..count).map(|_| channel().unwrap()).unzip()
}

#[offspring::test(timeout = "20s")]
fn a_worker_holds_up_to_32_handles() {
    let (senders, receivers) = channels(32);
    let process = send_to_all::spawn(senders).unwrap();
    for (n, receiver) in receivers.iter().enumerate() {
        assert_eq!(receiver.recv().unwrap(), n);
    }
    process.join().unwrap();

    let error = send_to_all::spawn(channels(33).0).unwrap_err();
    assert!(matches!(error, SpawnError::Encode(_)), "{error:?}");
    assert!(error.to_string().contains("at most 32 handles"), "{error}");
}

#[offspring::test(timeout = "20s")]
fn a_worker_holds_raw_handles_of_ipc_channel() {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..20).map(|_| ipc::channel().unwrap()).unzip();
    let process = send_to_all_raw::spawn(senders).unwrap();
    for (n, receiver) in receivers.iter().enumerate() {
        assert_eq!(receiver.recv().unwrap(), n);
    }
    process.join().unwrap();
}

/// Gives the error, and how many of the handles were left over and travelled with the next worker.
#[offspring::worker]
fn start_with_raw_handles(count: usize) -> (String, usize) {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| ipc::channel::<usize>().unwrap()).unzip();
    let error = send_to_all_raw::spawn(senders).unwrap_err();
    let next = ProcessBuilder::new().stdin(Stdio::piped()).spawn(wait_for_stdin::new()).unwrap();
    let is_dead = |receiver: &IpcReceiver<usize>| {
        matches!(receiver.try_recv(), Err(TryRecvError::IpcError(IpcError::Disconnected)))
    };
    let left = receivers.iter().filter(|receiver| !is_dead(receiver)).count();
    drop(next);
    (format!("{error:?}"), left)
}

#[offspring::worker]
fn wait_for_stdin() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[offspring::test(timeout = "20s")]
fn too_many_raw_handles_are_an_error_and_go_nowhere() {
    let stage = ProcessBuilder::new().stderr(Stdio::null()).spawn(start_with_raw_handles::new(70));
    let (error, left) = stage.unwrap().join().unwrap();
    assert!(error.starts_with("Io (") || error.starts_with("Encode ("), "{error}");
    assert_eq!(left, 0);
}

#[derive(Debug, Serialize, Deserialize)]
struct Output {
    how: Option<Refusal>,
    text: String,
}

#[offspring::worker]
fn output_that_refuses(panics: bool) -> Output {
    let how = Some(if panics { Refusal::Panic } else { Refusal::Error });
    Output { how, text: String::new() }
}

#[offspring::test(timeout = "20s")]
fn an_output_that_does_not_encode_is_an_error_of_join() {
    for (panics, expected) in [(false, "failed to encode"), (true, "dropped the pen")] {
        let process = output_that_refuses::spawn(panics).unwrap();
        for _ in 0..2 {
            let error = process.join().unwrap_err();
            assert!(
                matches!(error, JoinError::Output { .. }) && error.to_string().contains(expected),
                "{error}"
            );
        }
        assert!(process.exit_reason().unwrap().is_success());
    }
}

#[derive(Debug)]
struct Picky;

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        1u8.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("not in my parent")
    }
}

#[offspring::worker]
fn picky() -> Picky {
    Picky
}

#[offspring::test(timeout = "20s")]
fn an_output_that_does_not_decode_is_an_error_of_join() {
    let error = picky::spawn().unwrap().join().unwrap_err();
    assert!(
        matches!(error, JoinError::Output { .. }) && error.to_string().contains("not in my parent"),
        "{error}"
    );
}

#[offspring::worker]
fn make_channel() -> (Receiver<u8>, Vec<u8>) {
    let (sender, receiver) = channel().unwrap();
    sender.send(9).unwrap();
    (receiver, vec![0; 1 << 20])
}

#[offspring::test(timeout = "20s")]
fn an_output_that_exists_once_is_given_to_one_join() {
    let process = make_channel::spawn().unwrap();
    let (receiver, bytes) = process.join().unwrap();
    assert_eq!((receiver.recv().unwrap(), bytes.len()), (9, 1 << 20));
    assert!(matches!(process.join(), Err(JoinError::Taken { .. })));
}
