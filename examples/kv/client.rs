//! A client that writes its keys and reads them back.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

/// Returns the number of keys that read back as written.
#[offspring::worker]
pub(crate) fn run(address: String, number: usize, keys: usize) -> Result<usize, String> {
    talk(&address, number, keys).map_err(|error| error.to_string())
}

fn talk(address: &str, number: usize, keys: usize) -> io::Result<usize> {
    let mut requests = TcpStream::connect(address)?;
    let mut replies = BufReader::new(requests.try_clone()?);
    let mut ask = |line: String| {
        // One write: with two, Nagle's algorithm would delay the second until the first is
        // acknowledged.
        requests.write_all(format!("{line}\n").as_bytes())?;
        let mut reply = String::new();
        replies.read_line(&mut reply)?;
        Ok::<_, io::Error>(reply.trim_end().to_owned())
    };
    for key in 0..keys {
        let reply = ask(format!("SET {number}/{key} value {key}"))?;
        if reply != "OK" {
            return Err(io::Error::other(reply));
        }
    }
    let mut same = 0;
    for key in 0..keys {
        same += usize::from(ask(format!("GET {number}/{key}"))? == format!("VALUE value {key}"));
    }
    Ok(same)
}
