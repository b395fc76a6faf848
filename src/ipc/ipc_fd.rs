//! The descriptors of ipc-channel's objects, which it does not expose, and ipc-channel's objects
//! made from our descriptors.
//!
//! The `Debug` output of an object shows its descriptor. This checks that it is a socket, and a
//! test checks that it is the right one. All of this holds for the one version that Cargo.toml
//! pins.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ipc_channel::ipc::{self, OpaqueIpcReceiver};

use crate::sys::RawSocket;

/// Returns the socket of a sender or receiver, valid for as long as that exists.
pub(crate) fn raw_socket_of(end: &impl fmt::Debug) -> io::Result<RawSocket> {
    let text = format!("{end:?}");
    let number = || {
        let (_, rest) = text.split_once("fd: ")?;
        let rest = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
        let number = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        RawSocket::new(number)
    };
    number().ok_or_else(|| io::Error::other("ipc-channel does not show its descriptor"))
}

/// Makes a receiver from a socket: it makes a new receiver, and replaces that one's socket.
pub(crate) fn receiver_around(socket: OwnedFd) -> io::Result<OpaqueIpcReceiver> {
    let (_, receiver) = ipc::channel::<()>()?;
    let receiver = receiver.to_opaque();
    raw_socket_of(&receiver)?.replace_with(socket.as_fd())?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn the_socket_of_a_receiver_has_a_packet_when_the_receiver_has_a_message() {
        let (sender, receiver) = ipc_channel::ipc::channel::<u8>().unwrap();
        let socket = raw_socket_of(&receiver).unwrap();
        assert!(!sys::has_packet(socket));
        sender.send(1).unwrap();
        assert!(sys::has_packet(socket));
        receiver.recv().unwrap();
        assert!(!sys::has_packet(socket));
        drop(sender);
        assert!(sys::has_packet(socket), "the end is something to read");
    }

    #[test]
    fn a_socket_is_the_one_of_its_end() {
        let (sender, receiver) = ipc::channel::<u8>().unwrap();
        let sender = sender.to_opaque();
        let (out, receiver) = (raw_socket_of(&sender).unwrap(), receiver.to_opaque());
        let received = raw_socket_of(&receiver).unwrap();
        sys::send_packet(out.as_fd(), b"through", &[]).unwrap();
        let packet = sys::recv_packet(received.as_fd(), None, |_, _| true).unwrap();
        assert_eq!(packet.bytes, b"through");
    }

    #[test]
    fn a_receiver_around_a_socket_receives_what_is_sent_to_that() {
        let (sender, receiver) = ipc::channel::<u32>().unwrap();
        sender.send(7).unwrap();
        let socket = raw_socket_of(&receiver).unwrap().duplicate().unwrap();
        drop(receiver);
        let receiver: ipc::IpcReceiver<u32> = receiver_around(socket).unwrap().to();
        assert_eq!(receiver.try_recv().unwrap(), 7);
        sender.send(8).unwrap();
        assert_eq!(receiver.try_recv().unwrap(), 8);
        drop(receiver);
        assert!(sender.send(9).is_err(), "no other descriptor of it is left");
    }
}
