//! Launching an incarnation, and following it until its end.
//!
//! Each incarnation has a thread in the host, which reads its reports. The channel of the reports
//! is also the sign of life: it disconnects when the process ends, however that happens. Only then
//! does the thread join the process, for the reason of its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actor::actor::Actor;
use crate::actor::address::ActorRef;
use crate::actor::host::options::StartOptions;
use crate::actor::host::record::{ActorRecord, EndHook, RunningActor};
use crate::actor::protocol::{ActorExit, Report, Request};
use crate::actor::worker::incarnation::ActorProcess;
use crate::channel::{Receiver, channel};
use crate::error::{
    CreateError, DownReason, ExitReason, JoinTimeoutError, RecvTimeoutError, StartError, printable,
};
use crate::ipc::wire::Retry;
use crate::process::Process;
use crate::sys;

/// Starts the next incarnation, and waits until its state is built.
pub(crate) fn launch<A: Actor>(
    record: &Arc<ActorRecord>,
    address: &ActorRef<A>,
    args: A::Args,
    options: &StartOptions,
    on_end: EndHook,
) -> Result<(), StartError> {
    let create = |cause| StartError::Create { actor: record.name.clone(), cause };
    let (requests, inbound) = channel::<Request>().map_err(create)?;
    let (reports, heard) = channel::<Report>().map_err(create)?;
    let before = record.next_incarnation();
    let generation = before.generation;
    let worker = ActorProcess::<A> {
        generation,
        previous: before.previous,
        checkpoint: before.checkpoint,
        args,
        inbound,
        requests: requests.clone(),
        mailbox: record.mailbox.clone(),
        reports,
        address: address.clone(),
        redeliver: options.redeliver,
    };
    let spawned = options.process(&record.name, generation).spawn(worker);
    let process = spawned
        .map(Arc::new)
        .map_err(|cause| StartError::Spawn { actor: record.name.clone(), cause })?;
    wait_started(record, &process, &heard, options.start_timeout)?;
    let running = RunningActor::new(process, requests.clone());
    // Before the thread starts: it may see the end of the incarnation at once, and then takes it out
    // of the record. If it does, `publish_up` publishes nothing.
    record.set_running(Some(running.clone()));
    follow(record, generation, running, heard, options.heartbeat, on_end).map_err(|cause| {
        let act = "start a thread";
        create(CreateError::Io { act, cause })
    })?;
    record.publish_up(generation, requests.cast());
    Ok(())
}

/// Starts the thread that follows an incarnation until its end.
fn follow(
    record: &Arc<ActorRecord>,
    generation: u64,
    running: RunningActor,
    reports: Receiver<Report>,
    heartbeat: Option<Duration>,
    on_end: EndHook,
) -> std::io::Result<()> {
    let (followed, process) = (record.clone(), running.process.clone());
    let thread = sys::service_thread("offspring-host", move || {
        read_reports(&followed, &running, &reports, heartbeat);
        let reason = reason(&followed, &running.process, heartbeat);
        followed.end(generation, reason, on_end);
    });
    thread.map(drop).inspect_err(|_| {
        process.kill();
        record.set_running(None);
    })
}

/// Waits until the state is built. If that fails, the process has ended when this returns: a
/// restart must not find its name in use.
fn wait_started(
    record: &ActorRecord,
    process: &Process<ActorExit>,
    reports: &Receiver<Report>,
    limit: Duration,
) -> Result<(), StartError> {
    let actor = || record.name.clone();
    let deadline = Instant::now().checked_add(limit);
    let reason = loop {
        match reports.recv_timeout(left(deadline)) {
            Ok(Report::Started(Ok(()))) => return Ok(()),
            Ok(Report::Started(Err(error))) => {
                end_by(process, deadline);
                break DownReason::Failed(printable::text(error));
            }
            Ok(Report::Checkpoint(checkpoint)) => record.set_checkpoint(checkpoint),
            Ok(Report::Pong(_)) => {}
            Err(RecvTimeoutError::Timeout) => {
                end_by(process, deadline);
                return Err(StartError::Timeout { actor: actor(), after: limit });
            }
            Err(_) => break end_by(process, deadline),
        }
    };
    record.set_previous(&reason);
    Err(StartError::Down { actor: actor(), reason })
}

/// Reads an incarnation's reports until no more will come. Kills the incarnation if it misses its
/// heartbeat.
fn read_reports(
    record: &ActorRecord,
    running: &RunningActor,
    reports: &Receiver<Report>,
    heartbeat: Option<Duration>,
) {
    // When the unanswered ping was sent.
    let mut pinged: Option<Instant> = None;
    let (mut number, mut retry) = (0, Retry::default());
    loop {
        // After a report, the actor is left alone for half of the limit. So a hang is found between
        // one and one and a half limits after it began.
        let left = heartbeat.map_or(Duration::MAX, |limit| {
            pinged.map_or(limit / 2, |pinged| {
                (pinged + limit).saturating_duration_since(Instant::now())
            })
        });
        match reports.recv_timeout(left) {
            Ok(Report::Checkpoint(checkpoint)) => record.set_checkpoint(checkpoint),
            Ok(Report::Pong(_) | Report::Started(_)) => {}
            Err(RecvTimeoutError::Timeout) => {
                match (pinged, heartbeat) {
                    (Some(_), Some(limit)) => record.kill_hung(limit),
                    _ => {
                        number += 1;
                        // If there is no room for a ping, the actor reads no requests. The limit
                        // detects that too.
                        let _ =
                            running.requests.send_timeout(Request::Ping(number), Duration::ZERO);
                    }
                }
                pinged = Some(Instant::now());
                continue;
            }
            Err(RecvTimeoutError::Decode(_)) => {}
            // This process lacks a resource for a moment. That is not the actor's fault.
            Err(RecvTimeoutError::Io(error)) => retry.pause(&error),
            Err(_) => return,
        }
        pinged = None;
    }
}

/// Returns how an incarnation ended, once its reports have ended. If the process lingers, it is
/// killed after the heartbeat's limit.
fn reason(
    record: &ActorRecord,
    process: &Process<ActorExit>,
    heartbeat: Option<Duration>,
) -> DownReason {
    let deadline = heartbeat.and_then(|limit| Instant::now().checked_add(limit));
    let reason = end_within(process, deadline).unwrap_or_else(|| {
        heartbeat.into_iter().for_each(|limit| record.kill_hung(limit));
        end_of(process)
    });
    match (record.hung(), &reason) {
        (
            Some(limit),
            DownReason::Died(ExitReason::Killed { .. } | ExitReason::Signaled { .. }),
        ) => DownReason::Hung { limit },
        _ => reason,
    }
}

/// Waits for the process's end, and kills it at the deadline.
fn end_by(process: &Process<ActorExit>, deadline: Option<Instant>) -> DownReason {
    end_within(process, deadline).unwrap_or_else(|| {
        process.kill();
        end_of(process)
    })
}

/// Waits for the process's end.
fn end_of(process: &Process<ActorExit>) -> DownReason {
    loop {
        if let Some(reason) = end_within(process, None) {
            return reason;
        }
    }
}

/// Returns how the process ended; `None` if it is still running at the deadline.
fn end_within(process: &Process<ActorExit>, deadline: Option<Instant>) -> Option<DownReason> {
    match process.join_timeout(left(deadline)) {
        Ok(ActorExit(ending)) => Some(ending.into()),
        Err(error) if error.is_timeout() => None,
        Err(JoinTimeoutError::Ended { reason, .. }) => Some(DownReason::Died(reason)),
        Err(error) => Some(DownReason::Failed(error.to_string())),
    }
}

fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
}
