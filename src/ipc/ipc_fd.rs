//! The descriptors of ipc-channel's objects, which it does not expose, and objects of it around our
//! own descriptors.
//!
//! Out: the `Debug` output of an object names its descriptor. What is found there is checked to be
//! a socket, and a test checks that it is the right one. In: a message in ipc-channel's own format,
//! written to a channel that was just created. Both hold for the one version that Cargo.toml pins.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ipc_channel::ipc::{self, IpcSharedMemory, OpaqueIpcReceiver};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ipc::catch::no_panic;
use crate::sys::{self, RawSocket};

/// Returns the socket of a sender or receiver, valid for as long as that exists; `None` if `Debug`
/// does not show it.
pub(crate) fn raw_socket_of(end: &impl fmt::Debug) -> Option<RawSocket> {
    let text = format!("{end:?}");
    let (_, rest) = text.split_once("fd: ")?;
    let rest = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let number = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    RawSocket::new(number)
}

/// Returns a second descriptor for the socket of a sender or receiver.
pub(crate) fn socket_of(end: &impl fmt::Debug) -> io::Result<OwnedFd> {
    shown_socket_of(end)?.duplicate()
}

fn shown_socket_of(end: &impl fmt::Debug) -> io::Result<RawSocket> {
    raw_socket_of(end).ok_or_else(|| io::Error::other("ipc-channel does not show its descriptor"))
}

/// Returns the object of ipc-channel that a message with nothing but one descriptor decodes to.
fn adopt<T: DeserializeOwned + Serialize>(descriptor: &OwnedFd) -> io::Result<T> {
    let (sender, receiver) = ipc::channel::<T>()?;
    let socket = socket_of(&sender.to_opaque())?;
    // Its length with this header, its length without it, and the index of the first descriptor.
    let mut message = Vec::with_capacity(2 * size_of::<usize>() + 1);
    message.extend_from_slice(&(2 * size_of::<usize>() + 1).to_ne_bytes());
    message.extend_from_slice(&1usize.to_ne_bytes());
    message.push(0);
    sys::send_packet(socket.as_fd(), &message, &[descriptor.as_fd()])?;
    no_panic("ipc-channel", || receiver.try_recv())?
        .map_err(|error| io::Error::other(error.to_string()))
}

/// Returns a receiver around a socket: a fresh one, in which `socket` takes the place of its own.
pub(crate) fn receiver_around(socket: OwnedFd) -> io::Result<OpaqueIpcReceiver> {
    let (_, receiver) = ipc::channel::<()>()?;
    let receiver = receiver.to_opaque();
    shown_socket_of(&receiver)?.replace_with(socket.as_fd())?;
    Ok(receiver)
}

/// Returns shared memory of this length whose pages are allocated when they are first written.
pub(crate) fn sparse_memory(length: usize) -> io::Result<IpcSharedMemory> {
    adopt(&sys::sparse_memory(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_receiver_has_a_packet_when_the_receiver_has_a_message() {
        let (sender, receiver) = ipc_channel::ipc::channel::<u8>().unwrap();
        let socket = raw_socket_of(&receiver).expect("Debug shows the socket");
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
        let out = socket_of(&sender.to_opaque()).unwrap();
        let receiver = receiver.to_opaque();
        let received = socket_of(&receiver).unwrap();
        sys::send_packet(out.as_fd(), b"through", &[]).unwrap();
        assert_eq!(sys::recv_packet(received.as_fd(), 100).unwrap().0, b"through");
    }

    #[test]
    fn a_receiver_around_a_socket_receives_what_is_sent_to_that() {
        let (sender, receiver) = ipc::channel::<u32>().unwrap();
        sender.send(7).unwrap();
        let socket = socket_of(&receiver).unwrap();
        drop(receiver);
        let receiver: ipc::IpcReceiver<u32> = receiver_around(socket).unwrap().to();
        assert_eq!(receiver.try_recv().unwrap(), 7);
        sender.send(8).unwrap();
        assert_eq!(receiver.try_recv().unwrap(), 8);
        drop(receiver);
        assert!(sender.send(9).is_err(), "no other descriptor of it is left");
    }

    #[test]
    fn sparse_memory_is_as_long_as_asked_and_empty() {
        let memory = sparse_memory(1 << 30).unwrap();
        assert_eq!(memory.len(), 1 << 30);
        assert_eq!((memory[0], memory[(1 << 30) - 1]), (0, 0));
    }
}
