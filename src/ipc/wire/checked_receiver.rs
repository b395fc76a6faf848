//! Receiving from peers that are not trusted.
//!
//! ipc-channel trusts the header of a packet: if the packet is too short, or the header announces
//! more, it waits for the rest without a deadline, and an absurd length aborts the process. So each
//! packet is inspected while it is still in the socket, and only one that is a whole message by
//! itself (as all of ours are) is left to ipc-channel.

use std::fmt;
use std::io;

use ipc_channel::ipc::{IpcReceiver, OpaqueIpcReceiver};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Failure, duplicate_receiver, no_panic};
use crate::ipc::deadline::{TimeLimit, WaitEnd, Waited};
use crate::ipc::ipc_fd;
use crate::sys::{self, Descriptors, NextPacket, RawSocket};

/// The receiving end of a channel.
#[derive(Debug)]
pub(crate) struct CheckedReceiver<M> {
    receiver: IpcReceiver<M>,
    /// `None` if what arrived was no receiver. Nothing can be received from it.
    socket: Option<RawSocket>,
}

/// The longest packet that can be a message. Ours are far shorter, see
/// [`INLINE_MAX`](super::envelope::INLINE_MAX); ipc-channel has room for 212 KB.
const PACKET_MAX: usize = 128 << 10;

/// Returns whether ipc-channel finds a whole message in a packet of this length. Its first two
/// words are its own length, and the length of what follows them.
fn is_message(length: usize, words: [usize; 2]) -> bool {
    let header = size_of_val(&words);
    (header..=PACKET_MAX).contains(&length) && words == [length, length - header]
}

impl<M> CheckedReceiver<M> {
    pub(crate) fn new(receiver: IpcReceiver<M>) -> CheckedReceiver<M>
    where
        M: fmt::Debug,
    {
        let socket = ipc_fd::raw_socket_of(&receiver);
        CheckedReceiver { receiver, socket }
    }

    /// Returns the socket, which is open for as long as this receiver exists.
    pub(crate) fn socket(&self) -> Option<RawSocket> {
        self.socket
    }

    /// Returns the unchecked receiver.
    pub(crate) fn into_inner(self) -> IpcReceiver<M> {
        self.receiver
    }

    /// Returns a second receiver for the same channel, to be sent on. Only one of the two may
    /// receive.
    pub(crate) fn share(&self) -> io::Result<OpaqueIpcReceiver>
    where
        M: fmt::Debug,
    {
        duplicate_receiver(&self.receiver)
    }
}

impl<M: DeserializeOwned + Serialize> CheckedReceiver<M> {
    /// Receives one message, and waits for it until `limit`.
    ///
    /// A message whose descriptors this process has no room for stays in the channel:
    /// [`Failure::Starved`]. A packet that is no message is discarded, and reported as an error of
    /// the kind `InvalidData`; later messages can still be received.
    pub(crate) fn recv<L: TimeLimit>(&self, limit: &L) -> Waited<M, Failure, L> {
        let socket = self.socket.ok_or(Failure::Gone)?;
        loop {
            match sys::next_packet(socket, limit.deadline()).map_err(Failure::from)? {
                NextPacket::Nothing => {
                    if let Err(elapsed) = limit.check() {
                        return Err(WaitEnd::Timeout(elapsed));
                    }
                }
                NextPacket::End => return Err(Failure::Gone.into()),
                NextPacket::Packet(length, words, descriptors) => {
                    return Ok(self.receive(socket, length, words, descriptors)?);
                }
            }
        }
    }

    /// Receives the next packet of the socket, if it is a message.
    fn receive(
        &self,
        socket: RawSocket,
        length: usize,
        words: [usize; 2],
        descriptors: Descriptors,
    ) -> Result<M, Failure> {
        match descriptors {
            Descriptors::Fit if is_message(length, words) => self.take(),
            // ipc-channel would take the message, lose the descriptors that do not fit, and then
            // fail to decode it.
            Descriptors::Starved if is_message(length, words) => Err(Failure::Starved),
            _ => {
                sys::discard_packet(socket);
                let error =
                    io::Error::new(io::ErrorKind::InvalidData, "a packet that is no message");
                Err(Failure::Io(error))
            }
        }
    }

    /// Receives a message that has arrived, so this does not wait and no signal interrupts it.
    fn take(&self) -> Result<M, Failure> {
        no_panic("ipc-channel", || self.receiver.recv())?.map_err(Failure::from)
    }
}

#[cfg(test)]
pub(crate) mod hostile {
    //! Packets that no ipc-channel sends.

    use std::io;
    use std::os::fd::{AsFd, OwnedFd};

    use ipc_channel::ipc::IpcSender;

    use super::*;

    /// The number of kinds.
    pub(crate) const KINDS: u64 = 12;
    /// Kinds from this one on are long.
    pub(crate) const LONG: u64 = 11;

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
            // The header announces more: over the socket that comes along, which stays silent;
            // without a socket; and more than there is memory.
            5 => (packet(24, 1 << 20, &body), socket()),
            6 => (packet(24, 1 << 20, &body), None),
            7 => (packet(24, 1 << 60, &body), socket()),
            8 => (packet(24, usize::MAX, &body), None),
            9 => (packet(24, 3, &body), None),
            // Whole, but its content does not decode.
            10 => (packet(24, 8, &[255; 8]), None),
            _ => (packet(PACKET_MAX + 1, PACKET_MAX - 15, &vec![0; PACKET_MAX - 15]), None),
        }
    }

    /// Sends a packet of this kind to a channel.
    pub(crate) fn send<M>(to: &IpcSender<M>, kind: u64) -> io::Result<()>
    where
        M: Serialize + fmt::Debug,
    {
        let socket = ipc_fd::socket_of(to)?;
        let (bytes, descriptor) = garbage(kind);
        let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
        sys::send_packet(socket.as_fd(), &bytes, &descriptors)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use ipc_channel::ipc::{self, IpcSender};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;
    use crate::ipc::deadline::{Deadline, Forever};

    #[test]
    fn what_is_no_message_is_an_error_and_the_next_message_comes() {
        for kind in 0..hostile::KINDS {
            for patience in [Duration::ZERO, Duration::from_secs(5)] {
                let (sender, receiver) = ipc::channel::<String>().unwrap();
                let receiver = CheckedReceiver::new(receiver);
                hostile::send(&sender, kind).unwrap();
                sender.send("after it".to_owned()).unwrap();
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
    fn send_with(to: &IpcSender<u8>, message: u8, count: usize) {
        let socket = ipc_fd::socket_of(to).unwrap();
        // A file, because ipc-channel panics on sockets that a message does not claim.
        let file = std::fs::File::open("/dev/null").unwrap();
        let descriptors = vec![file.as_fd(); count];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = hostile::packet(17, 1, &[message]);
        rustix::net::sendmsg(&socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::DONTWAIT)
            .unwrap();
    }

    #[test]
    fn more_descriptors_than_ipc_channel_takes_make_a_message_none() {
        let (sender, receiver) = ipc::channel().unwrap();
        let receiver = CheckedReceiver::new(receiver);
        for count in [1, 64, 65, 253] {
            send_with(&sender, 8, count);
            sender.send(9).unwrap();
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
        let (sender, receiver) = ipc::channel::<u8>().unwrap();
        let receiver = CheckedReceiver::new(receiver);
        let before = Instant::now();
        let limit = Duration::from_millis(20);
        assert!(matches!(receiver.recv(&Deadline::after(limit)), Err(WaitEnd::Timeout(_))));
        assert!(before.elapsed() >= limit);
        for limit in [Deadline::never(), Deadline::after(Duration::from_secs(60))] {
            std::thread::scope(|scope| {
                scope.spawn(|| sender.send(3).unwrap());
                assert!(matches!(receiver.recv(&limit), Ok(3)));
            });
        }
        drop(sender);
        assert!(matches!(receiver.recv(&Forever), Err(WaitEnd::Failed(Failure::Gone))));
    }

    #[test]
    fn what_was_said_before_an_end_is_heard_also_when_the_other_side_left_something_unread() {
        let (near, far) = sys::packet_pair().unwrap();
        let receiver: IpcReceiver<u8> =
            ipc_fd::receiver_around(near.try_clone().unwrap()).unwrap().to();
        let receiver = CheckedReceiver::new(receiver);
        let message = [&17usize.to_ne_bytes()[..], &1usize.to_ne_bytes(), &[9]].concat();
        sys::send_packet(std::os::fd::AsFd::as_fd(&far), &message, &[]).unwrap();
        sys::send_packet(std::os::fd::AsFd::as_fd(&near), b"never read", &[]).unwrap();
        drop(far);
        assert!(matches!(receiver.recv(&Forever), Ok(9)));
        assert!(matches!(receiver.recv(&Forever), Err(WaitEnd::Failed(Failure::Gone))));
    }
}
