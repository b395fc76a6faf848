//! A worker function is called, created and spawned under one name, wherever it is defined.
#![deny(warnings)]

use std::time::Duration;

use offspring::{Process, ProcessWorker, SpawnError};

/// Ticks.
#[offspring::worker]
fn clock(mut ticks: u32, interval: Duration) -> u32 {
    ticks += interval.as_secs() as u32;
    ticks
}

#[offspring::worker]
fn nothing() {}

#[offspring::worker]
fn never() -> ! {
    std::process::exit(0)
}

#[offspring::worker(name = "keyword")]
fn r#type(r#fn: String) -> Result<String, String> {
    Ok(r#fn)
}

#[deprecated = "use clock"]
#[offspring::worker]
fn old(#[serde(default)] ticks: u32) -> u32 {
    ticks
}

mod deep {
    #[offspring::worker]
    pub(super) fn within(pair: (u8, Option<char>)) -> u8 {
        pair.0
    }
}

macro_rules! make {
    ($name:ident($arg:ident: $ty:ty) as $text:literal in $path:path) => {
        #[offspring::worker(name = $text, crate = $path)]
        fn $name($arg: $ty) -> $ty {
            $arg
        }
    };
}

make!(made(value: Vec<u8>) as "made.worker" in ::offspring);

fn of<W: ProcessWorker>(worker: W) -> (&'static str, W::Output) {
    (W::worker_name(), worker.run())
}

type Spawned<T> = Result<Process<T>, SpawnError>;

#[test]
fn a_worker_function_is_also_a_type() {
    #[offspring::worker]
    fn local(x: u8) -> u8 {
        x
    }

    assert_eq!(clock(5, Duration::from_secs(1)), 6);
    assert_eq!(of(clock::new(5, Duration::from_secs(1))).1, 6);
    assert_eq!(of(nothing::new()).1, ());
    assert_eq!(of(r#type::new("x".to_owned())), ("keyword", Ok("x".to_owned())));
    assert_eq!(of(deep::within::new((1, None))).1, 1);
    assert_eq!(of(made::new(vec![1])), ("made.worker", vec![1]));
    assert_eq!(of(local::new(1)).1, 1);

    // Two ways to spawn: under the name of the function, and on a value.
    let _: fn(u32, Duration) -> Spawned<u32> = clock::spawn;
    let _: fn() -> Spawned<()> = never::spawn;
    let _ = || nothing::new().spawn();
    let _ = || clock::new(5, Duration::ZERO).spawn();
    #[allow(deprecated)]
    let _ = || old::spawn(1);
}
