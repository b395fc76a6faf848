//! Each shortage, beside each call that needs what is short: the call returns an error or does
//! without, nothing that was accepted is lost, and everything works again once the shortage is
//! over. Each pair has a process of its own.
//!
//! `OFFSPRING_STARVE` set to anything runs every pair; the default is a sample.

mod calls;
mod shortage;

use std::sync::Mutex;
use std::time::Duration;

use offspring::ProcessBuilder;
use offspring::unix::{ProcessBuilderExt, Resource};

use calls::{CALLS, Call, Kit};
use shortage::Shortage;

/// Returns what the call said during the shortage; `None` if this user cannot bring it about.
#[offspring::worker]
fn stage(shortage: Shortage, call: Call, is_warm: bool) -> Option<Result<(), String>> {
    let mut kit = Kit::default();
    if is_warm {
        kit.attempt(call).unwrap_or_else(|error| panic!("before the shortage: {error}"));
    }
    let shortage = shortage.begin()?;
    let during = kit.attempt(call);
    shortage.end();
    kit.take_what_was_accepted();
    kit.attempt(call).unwrap_or_else(|error| panic!("after the shortage ({during:?}): {error}"));
    Some(during)
}

fn run(shortage: Shortage, call: Call, is_warm: bool) -> Result<(), String> {
    // Enough for all of a stage, and soon used up.
    let builder = ProcessBuilder::new().rlimit(Resource::OpenFiles, 160, 160).env("TMPDIR", "/tmp");
    let stage = builder.spawn(stage::new(shortage, call, is_warm));
    let stage = stage.map_err(|error| error.to_string())?;
    let during = stage.join_timeout(Duration::from_secs(60));
    if during.as_ref().is_err_and(|error| error.is_timeout()) {
        stage.kill_tree();
    }
    during.map_err(|error| error.to_string()).map(|during| {
        if std::env::var_os("OFFSPRING_STARVE").is_some() {
            println!("{shortage:?}, {call:?}, {is_warm}: {during:?}");
        }
    })
}

#[offspring::test(timeout = "900s")]
fn what_a_call_lacks_is_its_error_and_nothing_else() {
    let is_full = std::env::var_os("OFFSPRING_STARVE").is_some();
    let all = shortage::all(is_full).into_iter().flat_map(|shortage| {
        CALLS.into_iter().flat_map(move |call| [(shortage, call, true), (shortage, call, false)])
    });
    let wanted = |&(shortage, call, is_warm): &(Shortage, Call, bool)| {
        is_full || shortage.is_in_the_sample(call, is_warm)
    };
    let pairs = Mutex::new(all.filter(wanted));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = pairs.lock().unwrap().next();
                    let Some((shortage, call, is_warm)) = next else { return };
                    if let Err(error) = run(shortage, call, is_warm) {
                        let pair = format!("{shortage:?}, {call:?}, warm: {is_warm}: {error}");
                        failures.lock().unwrap().push(pair);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
