//! Worker processes in an async program. `#[offspring::main]` goes above the attribute of the
//! runtime, so that a child runs its worker before a runtime starts.
//!
//! `cargo run --example async_main`

#[offspring::worker]
fn primes_below(limit: u32) -> u32 {
    (2..limit).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count() as u32
}

#[offspring::main]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (small, large) = (primes_below::spawn(1_000)?, primes_below::spawn(10_000)?);
    let (small, large) = tokio::try_join!(small.join_async(), large.join_async())?;
    println!("{small} primes below 1000, {large} below 10000");
    Ok(())
}
