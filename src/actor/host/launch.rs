//! Starting an incarnation, and hearing of it until its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actor::actor::Actor;
use crate::actor::address::ActorRef;
use crate::actor::host::options::Plan;
use crate::actor::host::record::{OnEnd, Post, Running};
use crate::actor::protocol::{Report, Request};
use crate::actor::worker::incarnation::{ActorExit, ActorProcess};
use crate::channel::{Receiver, channel};
use crate::error::{
    CreateError, DownReason, ExitReason, JoinError, JoinTimeoutError, RecvTimeoutError, StartError,
};
use crate::process::Process;
use crate::sys;

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
    let (door, inbound) = channel::<Request>().map_err(create)?;
    let (reports, heard) = channel::<Report>().map_err(create)?;
    let before = post.next_incarnation();
    let generation = before.generation;
    let worker = ActorProcess::<A> {
        generation,
        previous: before.previous,
        checkpoint: before.checkpoint,
        args,
        inbound,
        door: door.clone(),
        mailbox: post.mailbox.clone(),
        reports,
        address: address.clone(),
        redeliver: plan.redeliver,
    };
    let spawned = plan.process(&post.name, generation).spawn(worker);
    let process = spawned.map(Arc::new).map_err(|source| StartError::Spawn {
        actor: post.name.clone(),
        source,
    })?;
    wait_started(post, &process, &heard, plan.start_timeout)?;
    let running = Running::new(process, door.clone());
    post.runs(Some(running.clone()));
    keep(post, generation, running, heard, plan.heartbeat, on_end).map_err(|source| {
        let act = "start a thread";
        create(CreateError::Io { act, source })
    })?;
    post.publish_up(generation, door.retype());
    Ok(())
}

/// Hears an incarnation that is up, on a thread of its own, until its end.
fn keep(
    post: &Arc<Post>,
    generation: u64,
    running: Running,
    heard: Receiver<Report>,
    heartbeat: Option<Duration>,
    on_end: OnEnd,
) -> std::io::Result<()> {
    let (keeper, process) = (post.clone(), running.process.clone());
    let thread = sys::service_thread("offspring-keeper", move || {
        hear(&keeper, &running, &heard, heartbeat);
        let reason = reason(&keeper, &running.process, heartbeat);
        keeper.ended(generation, reason, on_end);
    });
    thread.map(drop).inspect_err(|_| {
        process.kill();
        post.runs(None);
    })
}

/// Waits until its state is built. One that does not come so far has ended when this returns: a restart must not find its name in use.
fn wait_started(
    post: &Post,
    process: &Process<ActorExit>,
    heard: &Receiver<Report>,
    limit: Duration,
) -> Result<(), StartError> {
    let actor = || post.name.clone();
    let deadline = Instant::now().checked_add(limit);
    let reason = loop {
        let left = deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        match heard.recv_timeout(left) {
            Ok(Report::Started(Ok(()))) => return Ok(()),
            Ok(Report::Started(Err(error))) => {
                end_by(process, deadline);
                break DownReason::Failed(error);
            }
            Ok(Report::Checkpoint(checkpoint)) => post.keep_checkpoint(checkpoint),
            Ok(Report::Pong(_)) => {}
            Err(RecvTimeoutError::Timeout) => {
                end_by(process, deadline);
                let after = limit;
                return Err(StartError::Timeout {
                    actor: actor(),
                    after,
                });
            }
            Err(RecvTimeoutError::Failed(_)) => break end_by(process, deadline),
        }
    };
    post.ended_by(&reason);
    Err(StartError::Down {
        actor: actor(),
        reason,
    })
}

/// Hears an incarnation until it is gone.
fn hear(post: &Post, running: &Running, heard: &Receiver<Report>, heartbeat: Option<Duration>) {
    // When it was asked for a sign of life that it has not given.
    let mut asked: Option<Instant> = None;
    let mut number = 0;
    loop {
        // In between it is left alone: two questions within a limit find what has hung for that long.
        let left = heartbeat.map_or(Duration::MAX, |limit| {
            asked.map_or(limit / 2, |asked| {
                (asked + limit).saturating_duration_since(Instant::now())
            })
        });
        match heard.recv_timeout(left) {
            Ok(Report::Checkpoint(checkpoint)) => post.keep_checkpoint(checkpoint),
            Ok(Report::Pong(_) | Report::Started(_)) => {}
            Err(RecvTimeoutError::Timeout) => {
                match (asked, heartbeat) {
                    (Some(_), Some(limit)) => post.kill_hung(limit),
                    _ => {
                        number += 1;
                        // If there is no room for the question, there is no answer either.
                        let _ = running
                            .door
                            .send_timeout(Request::Ping(number), Duration::ZERO);
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

/// How an incarnation ended of which nothing is heard any more. One that lingers all the same gives no sign of life.
fn reason(post: &Post, process: &Process<ActorExit>, heartbeat: Option<Duration>) -> DownReason {
    let deadline = heartbeat.and_then(|limit| Instant::now().checked_add(limit));
    let reason = end_within(process, deadline).unwrap_or_else(|| {
        heartbeat
            .into_iter()
            .for_each(|limit| post.kill_hung(limit));
        end_of(process)
    });
    match (post.hung(), &reason) {
        (
            Some(limit),
            DownReason::Died(ExitReason::Killed { .. } | ExitReason::Signaled { .. }),
        ) => DownReason::Hung { limit },
        _ => reason,
    }
}

/// How the process ended; one that has nothing more to do and lingers is killed.
fn end_by(process: &Process<ActorExit>, deadline: Option<Instant>) -> DownReason {
    end_within(process, deadline).unwrap_or_else(|| {
        process.kill();
        end_of(process)
    })
}

/// How the process ended; waits for that.
fn end_of(process: &Process<ActorExit>) -> DownReason {
    loop {
        if let Some(reason) = end_within(process, None) {
            return reason;
        }
    }
}

/// How the process ended, if it does until then.
fn end_within(process: &Process<ActorExit>, deadline: Option<Instant>) -> Option<DownReason> {
    let left = deadline.map_or(Duration::MAX, |deadline| {
        deadline.saturating_duration_since(Instant::now())
    });
    match process.join_timeout(left) {
        Ok(ActorExit(ending)) => Some(ending.into()),
        Err(error) if error.is_timeout() => None,
        Err(JoinTimeoutError::Failed(JoinError::Ended { reason, .. })) => {
            Some(DownReason::Died(reason))
        }
        Err(error) => Some(DownReason::Failed(error.to_string())),
    }
}
