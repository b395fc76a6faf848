//! Large values, raw and foreign handles in values, and what becomes of them when processes stop or
//! die.

mod bytes;
mod death;
mod handles;
mod huge;

use offspring::Connection;
use offspring::channel::Bytes;

/// Bytes that differ at every position, so that a misplaced part is noticed.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..(length as u64).div_ceil(8))
        .flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed).to_le_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

#[offspring::worker]
fn echo_bytes(connection: Connection<Bytes, Bytes>) {
    let mut buffer = Vec::new();
    while connection.recv_bytes_into(&mut buffer).is_ok() {
        connection.send_bytes(&buffer).expect("the test receives");
    }
}
