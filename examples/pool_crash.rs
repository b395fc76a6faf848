//! Tasks that panic, crash or hang on purpose. Each failure is an error of that task alone.

use std::time::Duration;

use offspring::Pool;

#[offspring::worker]
fn divide(a: i64, b: i64) -> i64 {
    match b {
        0 => a / b, // panics
        13 => std::process::abort(),
        99 => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        _ => a / b,
    }
}

#[offspring::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().workers(2).task_timeout(Duration::from_millis(500)).build()?;
    let divisors = [1, 2, 0, 3, 13, 4, 99, 5];
    for (divisor, quotient) in divisors.into_iter().zip(pool.map(divisors, |b| divide::new(60, b)))
    {
        match quotient {
            Ok(quotient) => println!("60 / {divisor} = {quotient}"),
            Err(error) => println!("60 / {divisor}: {}", without_pid(&error.to_string())),
        }
    }
    println!("tasks that failed: {}", pool.stats().failed);
    Ok(())
}

/// Makes the output the same each time.
fn without_pid(message: &str) -> String {
    let mut parts = message.split("(pid ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + "(pid ..." + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}
