//! A program that monitors itself: a table of its processes and queues, redrawn in the terminal.

use std::io::{IsTerminal, Write, stdout};
use std::thread::sleep;
use std::time::{Duration, Instant};

use offspring::tree::{ProcessInfo, ProcessTree};
use offspring::{JoinableQueue, ProcessBuilder};

const INTERVAL: Duration = Duration::from_millis(250);
const ROUNDS: u32 = 8;

/// Counts primes the slow way, with pauses.
#[offspring::worker]
fn count_primes(limits: JoinableQueue<u32>) {
    for limit in &limits {
        let primes =
            (2..*limit).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0));
        std::hint::black_box(primes.count());
        sleep(Duration::from_millis(20));
        limit.task_done();
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limits = JoinableQueue::bounded(16)?;
    for name in ["anna", "ben", "carla"] {
        let builder = ProcessBuilder::new().name(name).daemon(true);
        let _runs_on = builder.spawn(count_primes::new(limits.clone()))?;
    }
    let mut before = (Instant::now(), offspring::tree());
    for round in 0..ROUNDS {
        // Enough that no worker is ever idle.
        while limits.len()? < 12 {
            limits.put(100_000 + 10_000 * round)?;
        }
        sleep(INTERVAL);
        let now = (Instant::now(), offspring::tree());
        draw(&now.1, &loads(&before, &now))?;
        before = now;
    }
    Ok(())
}

/// Returns the name of each process, and the fraction of a core that it used since the last
/// snapshot.
fn loads(before: &(Instant, ProcessTree), now: &(Instant, ProcessTree)) -> Vec<(String, f64)> {
    let time = (now.0 - before.0).as_secs_f64();
    let load = |process: &ProcessInfo| {
        let earlier =
            before.1.find(process.pid()).map_or(Duration::ZERO, |earlier| earlier.cpu_time());
        let used = process.cpu_time().saturating_sub(earlier);
        (process.name().to_owned(), used.as_secs_f64() / time)
    };
    now.1.processes().map(load).collect()
}

fn draw(tree: &ProcessTree, loads: &[(String, f64)]) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if out.is_terminal() {
        // Move to the upper left corner and clear the screen.
        write!(out, "\x1b[H\x1b[J")?;
    }
    writeln!(out, "{tree}\n")?;
    for (name, load) in loads {
        let bar = "#".repeat((load * 20.0).round() as usize);
        writeln!(out, "{name:>6} {:4.0} % {bar}", load * 100.0)?;
    }
    writeln!(out)
}
