//! Every call with every shortage. Each pair has a process of its own.

use std::sync::Mutex;
use std::time::Duration;

use offspring::ProcessBuilder;
use offspring::unix::{ProcessBuilderExt, Resource};

use super::calls::{self, CALLS, Call, Kit};
use super::shortage::{self, Shortage};

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
        if is_full() {
            println!("{shortage:?}, {call:?}, {is_warm}: {during:?}");
        }
    })
}

fn is_full() -> bool {
    std::env::var_os("OFFSPRING_STARVE").is_some()
}

/// Runs the pairs, and returns what was wrong.
pub(super) fn failures() -> Vec<String> {
    let _first = calls::first_actor();
    let all = shortage::all(is_full()).into_iter().flat_map(|shortage| {
        CALLS.into_iter().flat_map(move |call| [(shortage, call, true), (shortage, call, false)])
    });
    let wanted = |&(shortage, call, is_warm): &(Shortage, Call, bool)| {
        is_full() || shortage.is_in_the_sample(call, is_warm)
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
    failures.into_inner().unwrap()
}
