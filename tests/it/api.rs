//! Every public name. What is added, removed or moved changes this table, and so is seen in review.

use std::collections::BTreeSet;

use crate::imports::{code_of, expand, use_items};
use crate::tidy::sources;

/// Compiled, so each name is there.
#[allow(unused_imports)]
mod table {
    mod root {
        use offspring::{
            Actor, ActorBuilder, ActorRef, Connection, CreateError, DecodeError, Delivery,
            EncodeError, Error, ExitReason, HandleError, JoinError, JoinableQueue, Pool,
            PoolBuilder, Process, ProcessBuilder, ProcessGroup, ProcessWorker, Queue, QueueBuilder,
            Receiver, Result, Selector, Sender, SpawnError, Stdio, Supervisor, SupervisorBuilder,
            Task, Waitable, Worker, active_children, actor, as_completed, channel, current, init,
            init_before_main, main, message_limit, parent, pipe, register, register_actor,
            set_message_limit, test, tree, wait_any, wait_any_timeout, worker,
        };
    }
    mod actor {
        use offspring::actor::{
            Actor, ActorBuilder, ActorExit, ActorHandle, ActorOwner, ActorProcess, ActorRef,
            CallError, CastError, Checkpoint, Context, Down, DownReason, Link, LookupError,
            Monitor, StartError, Timer, find, foreign_reply, spawn,
        };
    }
    mod channel {
        use offspring::channel::{
            Bytes, Connection, Receiver, ReceiverIntoIter, ReceiverIter, ReceiverStream,
            ReceiverTryIter, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender,
            SenderSink, TryRecvError, TrySendError, channel, pipe,
        };
    }
    mod metrics {
        use offspring::metrics::publish;
    }
    mod pool {
        use offspring::pool::{
            InitializerOutput, Map, MapStream, MapUnordered, Pool, PoolBuilder, PoolError,
            PoolEvent, PoolEventStream, PoolEvents, PoolStats, Scope, ShutdownError, SubmitError,
            Task, TaskError, TaskOptions, TaskTimeoutError, TrySubmitError, WorkerStats,
            set_worker_state, with_worker_state,
        };
    }
    mod process {
        use offspring::process::{
            AppliedSandbox, Backend, ChildProcess, CurrentProcess, ExitReason, GroupError,
            JoinError, JoinFuture, JoinTimeoutError, KillCause, LogTarget, Member, MemberEnd,
            Output, PanicReport, ParentProcess, Process, ProcessBuilder, ProcessGroup,
            ProcessWorker, Protection, Registration, Sandbox, SpawnError, Stdio, TestPath, Worker,
            active_children, before_main, current, enter_test, init, parent, with_deadline,
        };
    }
    mod queue {
        use offspring::queue::{
            Consumer, Control, DeadCause, DeadLetter, DeadLetterError, Delivery, GetError,
            GetTimeoutError, JoinableBatches, JoinableConsumer, JoinableControl, JoinableIntoIter,
            JoinableIter, JoinableProducer, JoinableQueue, JoinableStream, Producer, PutAllError,
            PutError, PutTimeoutError, Queue, QueueBatches, QueueBuilder, QueueIntoIter, QueueIter,
            QueueJoinError, QueueJoinTimeoutError, QueueJoined, QueueSink, QueueStatus,
            QueueStream, TaskDoneError, TryGetError, TryPutError,
        };
    }
    mod select {
        use offspring::select::{
            AsCompleted, Selector, WaitError, Waitable, as_completed, wait_any, wait_any_timeout,
        };
    }
    mod shared {
        use offspring::shared::{
            AtomicBool, AtomicI32, AtomicI64, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize, Pod,
            SharedBytes, SharedSlice,
        };
    }
    mod supervisor {
        use offspring::supervisor::{
            Backoff, ChildInfo, ChildKind, ChildSpec, ChildState, Heartbeat, Restart, Shutdown,
            StartInfo, Strategy, Supervisor, SupervisorBuilder, SupervisorEnd, SupervisorError,
            SupervisorEvent, SupervisorEventStream, SupervisorEvents,
        };
    }
    mod sync {
        use offspring::sync::{
            Barrier, BarrierError, BarrierTimeoutError, BarrierWaitResult, Condvar, Encoded, Event,
            InPlace, LockError, LockTimeoutError, Mutex, MutexGuard, Permit, PoisonError,
            ReentrantMutex, ReentrantMutexGuard, ReleaseError, RwLock, RwLockReadGuard,
            RwLockWriteGuard, Semaphore, Storage, SyncError, TimeoutError, TryError, TryLockError,
            WaitTimeoutResult,
        };
    }
    mod testing {
        use offspring::testing::assert_no_children;
    }
    mod tree {
        use offspring::tree::{ProcessInfo, ProcessState, ProcessTree};
    }
    mod unix {
        use offspring::unix::{ProcessBuilderExt, Resource, SharedFd, UNLIMITED};
    }
}

/// `offspring::queue::GetError` for each name that the table imports.
fn in_table() -> BTreeSet<String> {
    let text = code_of(include_str!("api.rs"));
    let uses = use_items(&text).into_iter().map(|(_, tree)| tree);
    uses.filter(|tree| tree.starts_with("offspring::"))
        .flat_map(|tree| expand(&tree))
        .map(|path| path.replace(' ', ""))
        .collect()
}

/// The same for what `src/lib.rs` and the public modules export.
fn in_source() -> BTreeSet<String> {
    let sources = sources();
    let code = |file: &str| {
        let found = sources.iter().find(|(path, _)| path.ends_with(file));
        found.map(|(_, text)| code_of(text))
    };
    let root = code("src/lib.rs").unwrap();
    let mut names = BTreeSet::new();
    // Modules written in `lib.rs` itself come last there, each closed by a brace at the start of a
    // line.
    let mut outside = String::new();
    let mut inside: Option<(String, String)> = None;
    for line in root.lines() {
        let opened = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(" {"));
        match &mut inside {
            _ if opened.is_some() => inside = opened.map(|name| (name.to_owned(), String::new())),
            Some((name, text)) if line == "}" => {
                exports(&format!("offspring::{name}"), text, &mut names);
                inside = None;
            }
            Some((_, text)) => *text += &format!("{line}\n"),
            None => outside += &format!("{line}\n"),
        }
    }
    exports("offspring", &outside, &mut names);
    let modules =
        outside.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in modules {
        if let Some(text) = code(&format!("src/{module}/mod.rs")) {
            exports(&format!("offspring::{module}"), &text, &mut names);
        }
    }
    let macros =
        sources.iter().flat_map(|(_, text)| text.split("#[macro_export]\nmacro_rules! ").skip(1));
    names.extend(macros.map(|text| format!("offspring::{}", text.split(' ').next().unwrap())));
    names.retain(|name| !name.starts_with("offspring::__private"));
    names
}

fn exports(module: &str, text: &str, names: &mut BTreeSet<String>) {
    // `pub(crate) use` is a re-export within the crate.
    let text = text.replace("pub(crate) use ", "use ");
    let public = use_items(&text).into_iter().filter(|(public, _)| *public);
    let paths = public.flat_map(|(_, tree)| expand(&tree));
    names.extend(
        paths.map(|path| format!("{module}::{}", path.rsplit("::").next().unwrap().trim())),
    );
    let items = ["pub fn ", "pub struct ", "pub enum ", "pub trait ", "pub const "];
    for line in text.lines() {
        if let Some(rest) = items.iter().find_map(|item| line.strip_prefix(item)) {
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            names.insert(format!("{module}::{name}"));
        }
    }
}

#[test]
fn the_table_has_every_public_name_and_no_other() {
    let (table, source) = (in_table(), in_source());
    let missing: Vec<_> = source.difference(&table).collect();
    let surplus: Vec<_> = table.difference(&source).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "not in the table: {missing:#?}\nnot public: {surplus:#?}"
    );
}

/// `offspring::Error` takes each of them, and the rule for their texts is checked for each.
#[test]
fn every_public_error_is_in_the_umbrella_and_in_the_tests_of_texts() {
    let files =
        [include_str!("../../src/error/umbrella.rs"), include_str!("../../src/error/tests.rs")];
    let words = files
        .map(|text| -> BTreeSet<&str> { text.split(|c: char| !c.is_alphanumeric()).collect() });
    let names = in_table();
    let errors = names.iter().map(|path| path.rsplit("::").next().unwrap());
    for error in errors.filter(|name| name.ends_with("Error")) {
        assert!(words.iter().all(|words| words.contains(error)), "{error}");
    }
}
