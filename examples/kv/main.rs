//! A key-value store over TCP: one supervised actor per shard, one thread per connection, and
//! clients in processes of their own. One shard is killed while the clients work; they do not
//! notice.
//!
//! `cargo run --release --example kv [-- CLIENTS KEYS]`

use std::error::Error;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use offspring::ActorBuilder;
use offspring::supervisor::{Backoff, ChildSpec, Strategy, Supervisor};

mod client;
mod server;
mod shard;

use shard::ShardHandle;

const SHARDS: usize = 3;

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let clients = arguments.next().transpose()?.unwrap_or(3);
    let keys = arguments.next().transpose()?.unwrap_or(200);

    let children: Vec<(ChildSpec, ShardHandle)> = (0..SHARDS)
        .map(|n| ChildSpec::with_handle(format!("shard {n}"), ActorBuilder::new(), ()))
        .collect::<Result<_, _>>()?;
    let (specs, shards): (Vec<_>, Vec<_>) = children.into_iter().unzip();
    let supervisor = Supervisor::builder()
        .strategy(Strategy::OneForOne)
        .backoff(Backoff::exponential(Duration::from_millis(10), Duration::from_secs(1)))
        .children(specs)
        .start()?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    server::serve(listener, shards.clone());

    let clients: Vec<_> = (0..clients)
        .map(|number| client::run::spawn(address.clone(), number, keys))
        .collect::<Result<_, _>>()?;
    // Kill one shard in the middle of it.
    if let Some(pid) = supervisor.children()[1].pid {
        Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    }
    let mut written = 0;
    for client in clients {
        written += client.join()??;
    }
    let stored = shards.iter().map(ShardHandle::len).sum::<Result<usize, _>>()?;
    let restarts: u64 = supervisor.children().iter().map(|child| child.restarts).sum();
    println!("{written} keys written and read back, {stored} in the store, {restarts} restart");
    supervisor.stop();
    Ok(())
}
