//! Packets that ipc-channel never sends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::CheckedSender;
use crate::sys;

/// The number of kinds.
pub(crate) const KINDS: u64 = 12;

/// The longest packet that is accepted.
const PACKET_MAX: usize = 128 << 10;

pub(in crate::ipc::wire) fn packet(length: usize, total: usize, body: &[u8]) -> Vec<u8> {
    [&length.to_ne_bytes(), &total.to_ne_bytes(), body].concat()
}

/// Returns a packet of this kind, and a descriptor to send with it.
fn garbage(kind: u64) -> (Vec<u8>, Option<OwnedFd>) {
    let socket = || Some(sys::packet_pair().unwrap().0);
    let body = [7; 8];
    match kind {
        0 => (Vec::new(), None),
        1 => (vec![1; 4], None),
        2 => (vec![1; 15], None),
        3 => (packet(1000, 8, &body), None),
        4 => (packet(0, 0, &body), None),
        // The header announces more than there is: it is to come over a socket that stays silent;
        // there is no such socket; and it is more than there is memory.
        5 => (packet(24, 1 << 20, &body), socket()),
        6 => (packet(24, 1 << 20, &body), None),
        7 => (packet(24, 1 << 60, &body), socket()),
        8 => (packet(24, usize::MAX, &body), None),
        9 => (packet(24, 3, &body), None),
        // A whole message, but its content does not decode.
        10 => (packet(24, 8, &[255; 8]), None),
        _ => (packet(PACKET_MAX + 1, PACKET_MAX - 15, &vec![0; PACKET_MAX - 15]), None),
    }
}

/// Sends a packet of this kind to a channel.
pub(crate) fn send<M>(to: &CheckedSender<M>, kind: u64) -> io::Result<()> {
    let (bytes, descriptor) = garbage(kind);
    let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
    sys::send_packet(to.as_fd(), &bytes, &descriptors)
}
