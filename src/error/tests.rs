//! The rule for texts, over every variant of every error: see "Errors" in CONTRIBUTING.md.

use std::collections::{BTreeSet, VecDeque};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use super::*;

/// The names of an error's variants. A struct has none.
pub(super) trait Variants {
    const VARIANTS: &[&str];
}

/// The text of every cause below.
const CAUSE: &str = "the moon is full";

/// Checks all values of one error: there is one for each variant.
#[track_caller]
fn check<E: StdError + Variants + Into<Error>>(values: impl IntoIterator<Item = E>) {
    let mut seen = BTreeSet::new();
    for error in values {
        let (text, debug) = (error.to_string(), format!("{error:?}"));
        let chain = std::iter::successors(error.source(), |&cause| cause.source());
        let chain: Vec<String> = chain.map(ToString::to_string).collect();
        let all = format!("{text}: {}", chain.join(": "));
        assert_eq!(text.lines().count(), 1, "more than one line: {text}");
        assert!(all.matches(CAUSE).count() <= 1, "the cause is told twice: {all}");
        assert!(!chain.iter().any(|text| all.matches(text).count() > 1), "told twice: {all}");
        for noise in ["Error", "{", "kind:", "Os "] {
            assert!(!all.contains(noise) && !debug.contains(noise), "`{noise}` in {debug}");
        }
        assert!(!text.starts_with(char::is_uppercase) && !text.ends_with('.'), "{text}");
        match E::VARIANTS {
            [] => assert_eq!(debug, text),
            _ => {
                let (variant, _) = debug.split_once(' ').unwrap();
                assert_eq!(debug, format!("{variant} ({text})"));
                seen.insert(variant.to_owned());
            }
        }
        let any: Error = error.into();
        assert_eq!((any.to_string(), format!("{any:?}")), (text.clone(), text));
    }
    let variants: BTreeSet<String> = E::VARIANTS.iter().map(ToString::to_string).collect();
    assert_eq!(seen, variants, "not every variant of {} is here", std::any::type_name::<E>());
}

/// Like [`check`], for a variant whose text must include its cause.
#[track_caller]
fn tells_cause(error: impl StdError) {
    assert!(error.to_string().ends_with(CAUSE), "{error}");
}

fn text() -> String {
    CAUSE.to_owned()
}

fn io() -> io::Error {
    io::Error::other(CAUSE)
}

fn encode() -> EncodeError {
    EncodeError::new::<u32>(CAUSE)
}

fn decode() -> DecodeError {
    DecodeError::new::<u32>(CAUSE)
}

fn handle() -> HandleError {
    HandleError::Refused(text())
}

fn create() -> CreateError {
    CreateError::io("make shared memory")(io())
}

fn spawn() -> SpawnError {
    SpawnError::io("start a thread")(io())
}

fn reason() -> ExitReason {
    ExitReason::Panicked(Box::new(PanicReport::new(text(), None, None, None)))
}

fn name() -> String {
    "a".to_owned()
}

const PID: u32 = 7;
const TIME: Duration = Duration::from_secs(3);

#[test]
fn processes() {
    let stderr = || format!("first\n\n{CAUSE}\n");
    let quiet = String::new;
    let (name, message) = (name(), text());
    let errors = |stderr: String| {
        let (name, message, worker) = (name.clone(), message.clone(), "w");
        [
            SpawnError::NotInitialized,
            SpawnError::NotRegistered { worker },
            SpawnError::DuplicateWorker { name: worker, first: text(), second: quiet() },
            SpawnError::InvalidOption { option: "name", problem: "is empty".to_owned() },
            SpawnError::TooDeep { depth: 16 },
            SpawnError::Exiting,
            SpawnError::GroupEnding,
            SpawnError::Encode(encode()),
            SpawnError::Decode { name: name.clone(), pid: PID, message: message.clone() },
            SpawnError::BinaryMismatch { name: name.clone(), pid: PID, message: message.clone() },
            SpawnError::Died {
                name: name.clone(),
                pid: PID,
                reason: ExitReason::Exited(1),
                stderr: stderr.clone(),
            },
            SpawnError::Timeout {
                name: name.clone(),
                pid: PID,
                deadline: TIME,
                stderr: stderr.clone(),
            },
            SpawnError::Protocol { name: name.clone(), pid: PID, message: quiet(), stderr },
            SpawnError::Failed { name: name.clone(), pid: PID, message: message.clone() },
            SpawnError::Sandbox {
                name,
                pid: PID,
                missing: Protection::SystemCalls,
                reason: message,
            },
            spawn(),
        ]
    };
    check(errors(quiet()));
    // `Display` has the last line, `Debug` all.
    for error in errors(stderr()).into_iter().filter(|error| error.stderr().is_some()) {
        tells_cause(&error);
        let lines = format!("; the last lines of its stderr:\n    first\n    {CAUSE}");
        assert!(format!("{error:?}").ends_with(&format!(" ({error}){lines}")), "{error:?}");
        let text = error.to_string();
        assert_eq!(format!("{:?}", Error::from(error)), text + &lines);
    }
    [SpawnError::Encode(encode()), spawn()].iter().for_each(tells_cause);
    let (name, pid) = (name.as_str(), PID);
    let ended = || JoinError::Ended { name: name.into(), pid, reason: reason(), stderr: quiet() };
    let output = || JoinError::Output { name: name.into(), pid, message: text() };
    let taken = || JoinError::Taken { name: name.into(), pid };
    check([ended(), output(), taken()]);
    let timeout = JoinTimeoutError::Timeout { name: name.into(), pid, after: TIME };
    check([timeout, ended().into(), output().into(), taken().into()]);
    [ended(), output()].iter().for_each(tells_cause);
    let reason = ExitReason::Signaled { signal: 6, core_dumped: false };
    let aborted = JoinError::Ended { name: name.into(), pid, reason, stderr: stderr() };
    tells_cause(&aborted);
    assert!(format!("{aborted:?}").ends_with(&format!("\n    first\n    {CAUSE}")), "{aborted:?}");
}

#[test]
fn groups() {
    let end = |reason| MemberEnd::new(name(), PID, reason, false);
    let mut error = GroupError::new(end(reason()));
    check([error.clone()]);
    error.add(end(ExitReason::Exited(3)));
    check([error]);
}

#[test]
fn the_hint_at_the_end_of_a_panic_is_no_last_line() {
    let stderr = "thread 'main' panicked at src/main.rs:1:1:\noh no\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    let error = SpawnError::Protocol {
        name: name(),
        pid: PID,
        message: "it closed its socket".to_owned(),
        stderr: stderr.to_owned(),
    };
    assert!(error.to_string().ends_with("; its stderr ends with: oh no"), "{error}");
}

#[test]
fn values_and_objects() {
    check([encode()]);
    check([decode()]);
    check([
        CreateError::ZeroCapacity,
        CreateError::ZeroPermits,
        CreateError::ZeroParties,
        create(),
    ]);
    check([
        handle(),
        HandleError::Disconnected,
        HandleError::Unresponsive { pid: PID },
        HandleError::Io { act: "open it", message: text() },
    ]);
    check([WaitError::Nothing, WaitError::Io(io())]);
    tells_cause(encode());
    tells_cause(decode());
    tells_cause(create());
    tells_cause(handle());
    tells_cause(WaitError::Io(io()));
}

/// The values have no `Debug`.
#[derive(Clone, Copy)]
struct Item;

#[test]
fn queues() {
    let put = || {
        [
            PutError::Closed(Item),
            PutError::Abandoned(Item),
            PutError::Disconnected(Item),
            PutError::Encode(Item, encode()),
            PutError::Handle(Item, handle()),
        ]
    };
    check(put());
    check(put().map(TryPutError::from).into_iter().chain([TryPutError::Full(Item)]));
    check(put().map(PutTimeoutError::from).into_iter().chain([PutTimeoutError::Timeout(Item)]));
    put()[3..].iter().for_each(tells_cause);
    let get = || {
        [
            GetError::Closed,
            GetError::Abandoned,
            GetError::Disconnected,
            GetError::Decode(decode()),
            GetError::Handle(handle()),
        ]
    };
    check(get());
    check(get().map(TryGetError::from).into_iter().chain([TryGetError::Empty]));
    check(get().map(GetTimeoutError::from).into_iter().chain([GetTimeoutError::Timeout]));
    get()[3..].iter().for_each(tells_cause);
    let join = || {
        [
            QueueJoinError::Disconnected,
            QueueJoinError::Abandoned { unfinished: 2 },
            QueueJoinError::Handle(handle()),
        ]
    };
    check(join());
    let timeout = QueueJoinTimeoutError::Timeout;
    check(join().map(QueueJoinTimeoutError::from).into_iter().chain([timeout]));
    tells_cause(&join()[2]);
    let all = || {
        let cause = PutTimeoutError::Encode((), encode());
        PutAllError::new(3, cause, VecDeque::new(), std::iter::empty::<Item>())
    };
    check([all()]);
    tells_cause(all());
    check([TaskDoneError::TooMany, TaskDoneError::Disconnected]);
    check([
        DeadLetterError::NotOwner,
        DeadLetterError::Closed,
        DeadLetterError::Gone,
        DeadLetterError::MovedOut,
        DeadLetterError::NoMemory,
    ]);
}

#[test]
fn channels() {
    let send = || {
        [
            SendError::Disconnected(Item),
            SendError::Encode(Item, encode()),
            SendError::Moved(Item),
            SendError::Io(Item, io()),
        ]
    };
    check(send());
    check(send().map(TrySendError::from).into_iter().chain([TrySendError::Full(Item)]));
    check(send().map(SendTimeoutError::from).into_iter().chain([SendTimeoutError::Timeout(Item)]));
    [1, 3].iter().for_each(|&index| tells_cause(&send()[index]));
    let recv = || {
        [
            RecvError::Disconnected,
            RecvError::Decode(decode()),
            RecvError::Moved,
            RecvError::Io(io()),
        ]
    };
    check(recv());
    check(recv().map(TryRecvError::from).into_iter().chain([TryRecvError::Empty]));
    check(recv().map(RecvTimeoutError::from).into_iter().chain([RecvTimeoutError::Timeout]));
    [1, 3].iter().for_each(|&index| tells_cause(&recv()[index]));
}

#[test]
fn locks() {
    let sync = || {
        [
            SyncError::Disconnected,
            SyncError::Deadlock,
            SyncError::Decode(decode()),
            SyncError::Handle(handle()),
        ]
    };
    check(sync());
    check(sync().map(TryError::from).into_iter().chain([TryError::WouldBlock]));
    check(sync().map(TimeoutError::from).into_iter().chain([TimeoutError::Timeout]));
    sync()[2..].iter().for_each(tells_cause);
    let poison = |died| PoisonError::new(Item, died);
    check([poison(true), poison(false)]);
    check(sync().map(LockError::from).into_iter().chain([poison(true).into()]));
    let tries = sync().map(TryError::from).into_iter().chain([TryError::WouldBlock]);
    check(tries.map(TryLockError::from).chain([poison(true).into()]));
    let timeouts = sync().map(TimeoutError::from).into_iter().chain([TimeoutError::Timeout]);
    check(timeouts.map(LockTimeoutError::from).chain([poison(false).into()]));
    sync().map(LockError::<Item>::from)[2..].iter().for_each(tells_cause);
    check([ReleaseError::TooMany, ReleaseError::Disconnected, ReleaseError::Handle(handle())]);
    let barrier =
        || [BarrierError::Broken, BarrierError::Disconnected, BarrierError::Handle(handle())];
    check(barrier());
    let timeout = BarrierTimeoutError::Timeout;
    check(barrier().map(BarrierTimeoutError::from).into_iter().chain([timeout]));
}

#[test]
fn pools() {
    let (worker, quiet) = (name(), String::new);
    let pool = || PoolError::Spawn { worker: name(), cause: spawn() };
    check([
        PoolError::InvalidOption { option: "workers", problem: "is 0".to_owned() },
        pool(),
        PoolError::Initializer { worker: name(), pid: PID, message: text(), stderr: quiet() },
        PoolError::Ended { worker, pid: PID, reason: reason(), stderr: quiet() },
        PoolError::Encode(encode()),
        PoolError::Closed,
        PoolError::Io { act: "start a thread", cause: io() },
    ]);
    tells_cause(pool());
    let (task, worker, pid) = ("square", Arc::from("pool-0"), PID);
    let worker = || Arc::clone(&worker);
    let report = || Box::new(PanicReport::new(text(), None, None, None));
    let died = |reason, stderr| TaskError::Died { task, worker: worker(), pid, reason, stderr };
    let errors = || {
        [
            TaskError::Panicked { task, worker: worker(), pid, report: report() },
            died(reason(), quiet()),
            TaskError::SetAside {
                task,
                crashes: 3,
                worker: worker(),
                pid,
                reason: reason(),
                stderr: quiet(),
            },
            TaskError::TimeLimit { task, worker: worker(), pid, limit: TIME, stderr: quiet() },
            TaskError::OverMemory {
                task,
                worker: worker(),
                pid,
                used: 2000,
                limit: 1000,
                stderr: quiet(),
            },
            TaskError::Cancelled { task },
            TaskError::Value { task, worker: worker(), pid, message: text() },
            TaskError::Output { task, worker: worker(), pid, message: text() },
            TaskError::Decode { task, cause: decode() },
            TaskError::Lost { task },
            TaskError::Unsendable { task, cause: encode() },
            TaskError::Stopped { task },
            TaskError::Broken { task, cause: Arc::new(pool()) },
            TaskError::Taken { task },
        ]
    };
    check(errors());
    let timeout = TaskTimeoutError::Timeout { task, after: TIME };
    check(errors().map(TaskTimeoutError::from).into_iter().chain([timeout]));
    // The last line of stderr, unless the reason has it; all of them where `main` prints the error.
    let aborted = || ExitReason::Signaled { signal: 6, core_dumped: false };
    let error = died(aborted(), "first\n\nlast\n".to_owned());
    assert!(error.to_string().ends_with("(SIGABRT); its stderr ends with: last"), "{error}");
    let lines = "; the last lines of its stderr:\n    first\n    last";
    assert!(format!("{error:?}").ends_with(lines), "{error:?}");
    assert!(format!("{:?}", Error::from(error.clone())).ends_with(lines));
    assert_eq!(error.stderr(), Some("first\n\nlast\n"));
    let panicked = died(ExitReason::Panicked(report()), "the message again".to_owned());
    assert!(!format!("{panicked:?}").contains("again"), "{panicked:?}");
    [0, 1, 2, 6, 7, 8, 10, 12].iter().for_each(|&index| tells_cause(&errors()[index]));
    let submit = || {
        [
            SubmitError::Closed(Item),
            SubmitError::Broken(Item, Arc::new(pool())),
            SubmitError::Encode(Item, encode()),
            SubmitError::Unknown(Item, spawn()),
            SubmitError::Io(Item, io()),
        ]
    };
    check(submit());
    check(submit().map(TrySubmitError::from).into_iter().chain([TrySubmitError::Full(Item)]));
    submit()[1..].iter().for_each(tells_cause);
    check([ShutdownError { dropped: 2, grace: TIME }]);
}

#[test]
fn actors() {
    let (actor, message) = (name(), text());
    let gave_up = || DownReason::SupervisorGaveUp {
        child: name(),
        reason: Box::new(DownReason::Died(reason())),
        intensity: 1,
        period: TIME,
    };
    let call = [
        CallError::Timeout { actor: name(), after: TIME },
        CallError::Restarted { actor: name(), reason: DownReason::Died(reason()) },
        CallError::Down { actor: name(), reason: gave_up() },
        CallError::Cycle { path: "a, b, a".to_owned() },
        CallError::Encode { actor: name(), cause: encode() },
        CallError::Decode { actor: name(), cause: decode() },
        CallError::Refused { actor: name(), message: message.clone() },
        CallError::Io { actor: name(), message: message.clone() },
    ];
    [1, 2, 4, 5, 6, 7].iter().for_each(|&index| tells_cause(&call[index]));
    check(call);
    let cast = [
        CastError::Full { actor: name(), message: Item },
        CastError::Down { actor: name(), message: Item, reason: DownReason::Died(reason()) },
        CastError::Encode { actor: name(), message: Item, cause: encode() },
        CastError::Io { actor: name(), message: Item, cause: text() },
    ];
    cast[1..].iter().for_each(tells_cause);
    check(cast);
    let start = || {
        [
            StartError::Spawn { actor: name(), cause: spawn() },
            StartError::Create { actor: name(), cause: create() },
            StartError::Down { actor: name(), reason: DownReason::Failed(text()) },
            StartError::Timeout { actor: name(), after: TIME },
            StartError::NameTaken { actor: name() },
        ]
    };
    start()[..3].iter().for_each(tells_cause);
    check(start());
    check([
        LookupError::NotFound { name: name() },
        LookupError::OtherType { name: name(), wanted: "Counter" },
        LookupError::Unreachable { message },
    ]);
    let of_start = |cause| SupervisorError::Start { id: name(), cause: Box::new(cause) };
    for cause in start() {
        let error = of_start(cause);
        assert_eq!(error.to_string().matches("did not start").count(), 1, "{error}");
    }
    let id = || actor.clone();
    check(start().map(of_start).into_iter().chain([
        SupervisorError::DuplicateId { id: id() },
        SupervisorError::InvalidId { id: id() },
        SupervisorError::ZeroPeriod,
        SupervisorError::NotFound { id: id() },
        SupervisorError::Running { id: id() },
        SupervisorError::Ended,
        SupervisorError::Create { cause: create() },
    ]));
}

#[test]
fn any_error_is_its_text_in_another_process() {
    let error = Error::from(GetError::Decode(decode()));
    let text = serde_json::to_string(&error).unwrap();
    let back: Error = serde_json::from_str(&text).unwrap();
    assert_eq!(back.to_string(), error.to_string());
    assert!(back.downcast_ref::<GetError>().is_none());
    assert!(matches!(error.downcast::<GetError>(), Ok(GetError::Decode(_))));
}
