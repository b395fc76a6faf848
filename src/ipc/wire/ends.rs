//! The ends of channels.
//!
//! A channel is ipc-channel's: a pair of packet sockets. An end that was made in this process is
//! held as ipc-channel's object. An end that arrived from another process is held as its
//! descriptor, because only ipc-channel itself can make its objects from what it receives.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipc_channel::ipc::{self, OpaqueIpcReceiver, OpaqueIpcSender};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Failure, explain, explain_de, packet};
use crate::ipc::deadline::{TimeLimit, WaitEnd, Waited};
use crate::ipc::ipc_fd;
use crate::sys::{self, RawSocket, RecvEnd};

/// A packet socket, and the object that keeps it open.
struct Socket<E> {
    number: RawSocket,
    _owner: SocketOwner<E>,
}

#[expect(dead_code, reason = "they are held and dropped")]
enum SocketOwner<E> {
    IpcChannel(E),
    Descriptor(OwnedFd),
}

impl<E: fmt::Debug> Socket<E> {
    fn of(end: E) -> io::Result<Socket<E>> {
        let number = ipc_fd::raw_socket_of(&end)?;
        Ok(Socket { number, _owner: SocketOwner::IpcChannel(end) })
    }
}

impl<E> Socket<E> {
    fn adopt(descriptor: OwnedFd) -> io::Result<Socket<E>> {
        let number = RawSocket::of(&descriptor)?;
        Ok(Socket { number, _owner: SocketOwner::Descriptor(descriptor) })
    }
}

/// The sending end of a channel. Clones share one descriptor.
pub(crate) struct CheckedSender<M> {
    socket: Arc<Socket<OpaqueIpcSender>>,
    message: PhantomData<fn(M)>,
}

/// The receiving end of a channel, which exists only once.
pub(crate) struct CheckedReceiver<M> {
    socket: Socket<OpaqueIpcReceiver>,
    message: PhantomData<fn() -> M>,
}

/// Creates a channel.
pub(crate) fn channel<M>() -> io::Result<(CheckedSender<M>, CheckedReceiver<M>)> {
    let (sender, receiver) = ipc::channel::<()>()?;
    let socket = Arc::new(Socket::of(sender.to_opaque())?);
    let sender = CheckedSender { socket, message: PhantomData };
    let socket = Socket::of(receiver.to_opaque())?;
    Ok((sender, CheckedReceiver { socket, message: PhantomData }))
}

impl<M> CheckedSender<M> {
    /// Returns the end as one for other messages. The caller must know that it is one.
    pub(crate) fn to<N>(self) -> CheckedSender<N> {
        CheckedSender { socket: self.socket, message: PhantomData }
    }
}

impl<M> CheckedReceiver<M> {
    /// Wraps a descriptor from another process. Returns an error unless it is a packet socket.
    pub(crate) fn adopt(descriptor: OwnedFd) -> io::Result<CheckedReceiver<M>> {
        let socket = Socket::adopt(descriptor)?;
        Ok(CheckedReceiver { socket, message: PhantomData })
    }

    /// Returns the end as one for other messages. The caller must know that it is one.
    pub(crate) fn to<N>(self) -> CheckedReceiver<N> {
        CheckedReceiver { socket: self.socket, message: PhantomData }
    }

    /// Returns the socket, which is open for as long as this receiver exists.
    pub(crate) fn socket(&self) -> RawSocket {
        self.socket.number
    }

    /// Undoes what the process that made the channel may have set, so that a message that is there
    /// is not received.
    pub(crate) fn clear_peek_offset(&self) {
        sys::clear_peek_offset(self.as_fd());
    }

    /// Returns a second receiver for the same channel, to send on. Only one of the two may receive.
    pub(crate) fn duplicate(&self) -> io::Result<CheckedReceiver<M>> {
        CheckedReceiver::adopt(self.socket.number.duplicate()?)
    }
}

impl<M: DeserializeOwned> CheckedReceiver<M> {
    /// Receives one message, and waits for it until `limit`.
    ///
    /// A message whose descriptors do not fit into this process stays in the channel:
    /// [`Failure::Starved`]. A packet that is not a message is discarded, and reported as an error
    /// of the kind `InvalidData`; later messages can still be received.
    pub(crate) fn recv<L: TimeLimit>(&self, limit: &L) -> Waited<M, Failure, L> {
        loop {
            let received =
                sys::recv_packet(self.as_fd(), limit.deadline(), packet::is_whole_message);
            let failure = match received {
                Ok(packet) => return Ok(packet::open(packet)?),
                Err(RecvEnd::Timeout) => match limit.check() {
                    Ok(()) => continue,
                    Err(elapsed) => return Err(WaitEnd::Timeout(elapsed)),
                },
                Err(RecvEnd::Gone) => Failure::Gone,
                Err(RecvEnd::Starved) => Failure::Starved,
                Err(RecvEnd::Refused) => packet::no_message("a packet that is no message"),
                Err(RecvEnd::Io(error)) => error.into(),
            };
            return Err(failure.into());
        }
    }
}

impl<M> Clone for CheckedSender<M> {
    fn clone(&self) -> CheckedSender<M> {
        CheckedSender { socket: self.socket.clone(), message: PhantomData }
    }
}

impl<M> AsFd for CheckedSender<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.number.as_fd()
    }
}

impl<M> AsFd for CheckedReceiver<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.number.as_fd()
    }
}

impl<M> fmt::Debug for CheckedSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckedSender").field(&self.socket.number).finish()
    }
}

impl<M> fmt::Debug for CheckedReceiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckedReceiver").field(&self.socket.number).finish()
    }
}

/// Used inside messages, where the descriptor is sent along.
impl<M> Serialize for CheckedSender<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        packet::attach(self).map_err(explain::<S::Error>)?.serialize(serializer)
    }
}

impl<'de, M> Deserialize<'de> for CheckedSender<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let descriptor = packet::deserialize_descriptor(deserializer)?;
        let socket = Socket::adopt(descriptor).map_err(|error| explain_de(&error.to_string()))?;
        Ok(CheckedSender { socket: Arc::new(socket), message: PhantomData })
    }
}

impl<M> Serialize for CheckedReceiver<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        packet::attach(self).map_err(explain::<S::Error>)?.serialize(serializer)
    }
}

impl<'de, M> Deserialize<'de> for CheckedReceiver<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let descriptor = packet::deserialize_descriptor(deserializer)?;
        CheckedReceiver::adopt(descriptor).map_err(|error| explain_de(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;
    use crate::ipc::deadline::{Deadline, Forever};
    use crate::ipc::wire::{hostile, send};

    #[test]
    fn what_is_no_message_is_an_error_and_the_next_message_comes() {
        for kind in 0..hostile::KINDS {
            for patience in [Duration::ZERO, Duration::from_secs(5)] {
                let (sender, receiver) = channel::<String>().unwrap();
                hostile::send(&sender, kind).unwrap();
                send(&sender, &"after it".to_owned()).unwrap();
                let deadline = || Deadline::after(patience);
                let got = receiver.recv(&deadline());
                assert!(
                    matches!(&got, Err(WaitEnd::Failed(Failure::Io(error))) if error.kind() == io::ErrorKind::InvalidData),
                    "{kind}: {got:?}"
                );
                assert!(
                    matches!(receiver.recv(&deadline()), Ok(text) if text == "after it"),
                    "{kind}"
                );
                assert!(
                    matches!(receiver.recv(&Deadline::now()), Err(WaitEnd::Timeout(_))),
                    "{kind}"
                );
                drop(sender);
                assert!(
                    matches!(receiver.recv(&Forever), Err(WaitEnd::Failed(Failure::Gone))),
                    "{kind}"
                );
            }
        }
    }

    /// Sends a whole message with `count` copies of a descriptor, more than [`sys::send_packet`]
    /// allows.
    fn send_with(to: &CheckedSender<u8>, message: u8, count: usize) {
        let file = std::fs::File::open("/dev/null").unwrap();
        let descriptors = vec![file.as_fd(); count];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = hostile::packet(17, 1, &[message]);
        rustix::net::sendmsg(to, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::DONTWAIT)
            .unwrap();
    }

    #[test]
    fn more_descriptors_than_ipc_channel_takes_make_a_message_none() {
        let (sender, receiver) = channel().unwrap();
        for count in [1, 64, 65, 253] {
            send_with(&sender, 8, count);
            send(&sender, &9).unwrap();
            let got = receiver.recv(&Deadline::now());
            match &got {
                Ok(8) => assert!(count <= 64, "{count}"),
                Err(WaitEnd::Failed(Failure::Io(error)))
                    if error.kind() == io::ErrorKind::InvalidData =>
                {
                    assert!(count > 64, "{count}")
                }
                _ => panic!("{count}: {got:?}"),
            }
            assert!(matches!(receiver.recv(&Deadline::now()), Ok(9)), "{count}");
        }
    }

    #[test]
    fn a_wait_ends_with_a_message_the_end_or_the_deadline() {
        let (sender, receiver) = channel::<u8>().unwrap();
        let before = Instant::now();
        let limit = Duration::from_millis(20);
        assert!(matches!(receiver.recv(&Deadline::after(limit)), Err(WaitEnd::Timeout(_))));
        assert!(before.elapsed() >= limit);
        for limit in [Deadline::never(), Deadline::after(Duration::from_secs(60))] {
            std::thread::scope(|scope| {
                scope.spawn(|| send(&sender, &3).unwrap());
                assert!(matches!(receiver.recv(&limit), Ok(3)));
            });
        }
        drop(sender);
        assert!(matches!(receiver.recv(&Forever), Err(WaitEnd::Failed(Failure::Gone))));
    }

    #[test]
    fn what_was_said_before_an_end_is_heard_also_when_the_other_side_left_something_unread() {
        let (near, far) = sys::packet_pair().unwrap();
        let receiver = CheckedReceiver::<u8>::adopt(near.try_clone().unwrap()).unwrap();
        let message = [&17usize.to_ne_bytes()[..], &1usize.to_ne_bytes(), &[9]].concat();
        sys::send_packet(far.as_fd(), &message, &[]).unwrap();
        sys::send_packet(near.as_fd(), b"never read", &[]).unwrap();
        drop(far);
        assert!(matches!(receiver.recv(&Forever), Ok(9)));
        assert!(matches!(receiver.recv(&Forever), Err(WaitEnd::Failed(Failure::Gone))));
    }

    fn is_refused<M>(received: &Waited<M, Failure, Deadline>) -> bool {
        matches!(received, Err(WaitEnd::Failed(Failure::Io(error))) if error.kind() == io::ErrorKind::InvalidData)
    }

    #[test]
    fn a_descriptor_that_is_named_twice_or_is_of_another_kind_makes_a_message_none() {
        let file = || std::fs::File::open("/dev/null").unwrap();
        let (near, _far) = sys::packet_pair().unwrap();
        let check = |indices: &[u8], fds: &[BorrowedFd<'_>]| {
            let (sender, receiver) = channel::<(CheckedSender<u8>, CheckedReceiver<u8>)>().unwrap();
            let message = hostile::packet(18, 2, indices);
            sys::send_packet(sender.as_fd(), &message, fds).unwrap();
            receiver.recv(&Deadline::now())
        };
        assert!(check(&[0, 1], &[near.as_fd(), near.as_fd()]).is_ok());
        assert!(check(&[1, 0], &[near.as_fd(), near.as_fd()]).is_ok());
        assert!(is_refused(&check(&[0, 0], &[near.as_fd(), near.as_fd()])));
        assert!(is_refused(&check(&[0, 1], &[near.as_fd()])));
        assert!(is_refused(&check(&[0, 1], &[])));
        assert!(is_refused(&check(&[0, 1], &[near.as_fd(), file().as_fd()])));
        assert!(is_refused(&check(&[1, 0], &[near.as_fd(), file().as_fd()])));
    }

    #[test]
    fn a_message_that_finds_no_room_is_not_sent_and_its_ends_stay() {
        let (sender, receiver) = channel::<Option<CheckedReceiver<u8>>>().unwrap();
        while send(&sender, &None).is_ok() {}
        let (far, near) = channel::<u8>().unwrap();
        let message = Some(near);
        assert!(matches!(send(&sender, &message), Err(Failure::Full)));
        while let Ok(received) = receiver.recv(&Deadline::now()) {
            assert!(received.is_none());
        }
        send(&sender, &message).unwrap();
        drop(message);
        send(&far, &5).unwrap();
        let near = receiver.recv(&Deadline::now()).unwrap().expect("it was sent");
        assert!(matches!(near.recv(&Deadline::now()), Ok(5)));
    }
}
