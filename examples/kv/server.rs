//! The server: one thread per connection. The protocol is lines: `SET key value` and `GET key`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use offspring::actor::CallError;

use crate::shard::ShardHandle;

pub(crate) fn serve(listener: TcpListener, shards: Vec<ShardHandle>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shards = shards.clone();
            // The thread ends with its connection.
            thread::spawn(move || connection(stream, &shards));
        }
    });
}

fn connection(stream: TcpStream, shards: &[ShardHandle]) -> io::Result<()> {
    let mut replies = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let reply = answer(&line?, shards);
        // One write: with two, Nagle's algorithm would delay the second until the first is
        // acknowledged.
        replies.write_all(format!("{reply}\n").as_bytes())?;
    }
    Ok(())
}

fn answer(line: &str, shards: &[ShardHandle]) -> String {
    let mut words = line.splitn(3, ' ');
    let reply = match (words.next(), words.next(), words.next()) {
        (Some("SET"), Some(key), Some(value)) => {
            retry(|| shard(shards, key).set(key.to_owned(), value.to_owned()))
                .map(|()| "OK".to_owned())
        }
        (Some("GET"), Some(key), None) => retry(|| shard(shards, key).get(key.to_owned()))
            .map(|value| value.map_or_else(|| "NONE".to_owned(), |value| format!("VALUE {value}"))),
        _ => return "ERROR SET key value, or GET key".to_owned(),
    };
    reply.unwrap_or_else(|error| format!("ERROR {error}"))
}

/// Repeats a call whose shard died. That is safe because setting and getting a key are idempotent.
/// The new call waits until the shard is up again.
fn retry<T>(call: impl Fn() -> Result<T, CallError>) -> Result<T, CallError> {
    loop {
        match call() {
            Err(CallError::Restarted { .. }) => {}
            result => return result,
        }
    }
}

fn shard<'a>(shards: &'a [ShardHandle], key: &str) -> &'a ShardHandle {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    &shards[(hasher.finish() % shards.len() as u64) as usize]
}
