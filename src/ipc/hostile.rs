//! What a hostile process sends: packets that no honest process sends, and its own messages,
//! changed on their way.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
};

use crate::ipc::fuzz::{self, Random};
use crate::sys;

/// The most descriptors that the system sends with one packet.
const DESCRIPTORS_MAX: usize = 253;
/// The length of ipc-channel's header: two words.
const HEADER: usize = 16;

/// A packet with its descriptors.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawPacket {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<Arc<OwnedFd>>,
}

impl RawPacket {
    /// Takes the next packet that has arrived.
    pub(crate) fn take(socket: BorrowedFd<'_>) -> io::Result<RawPacket> {
        let mut bytes = vec![0; 256 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let taken =
            recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?.bytes;
        bytes.truncate(taken);
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.map(Arc::new)),
            _ => None,
        });
        Ok(RawPacket { bytes, descriptors: descriptors.flatten().collect() })
    }

    /// Sends it, unless the socket is full.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let descriptors: Vec<_> = self.descriptors.iter().map(|fd| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(socket, &[IoSlice::new(&self.bytes)], &mut ancillary, flags)?;
        Ok(())
    }

    /// Makes the header say that the message is whole.
    fn fix_header(&mut self) {
        self.bytes.resize(self.bytes.len().max(HEADER), 0);
        let length = self.bytes.len();
        self.bytes[..8].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..HEADER].copy_from_slice(&(length - HEADER).to_ne_bytes());
    }

    /// Returns a packet that is not a message of ours, or one with strange descriptors.
    pub(crate) fn of_garbage(random: &mut Random) -> RawPacket {
        let mut packet = RawPacket { bytes: random.bytes(80), descriptors: Vec::new() };
        if !random.one_in(3) {
            packet.fix_header();
        }
        let most = *random.choose(&[1, 1, 3, 70, DESCRIPTORS_MAX as u64]);
        if random.one_in(3) {
            let odd = Arc::new(odd_descriptor(random));
            packet.descriptors = (0..random.below(most)).map(|_| odd.clone()).collect();
        }
        match random.below(12) {
            0 => packet.bytes.clear(),
            // Longer than any message of this crate.
            1 => packet.bytes.resize(150 << 10, 7),
            // The header announces more than there is, or less.
            2 => {
                packet.fix_header();
                let at = *random.choose(&[0, 8]);
                let length = random.number(1 << 20);
                packet.bytes[at..at + 8].copy_from_slice(&length.to_ne_bytes());
            }
            _ => {}
        }
        packet
    }

    fn tamper(&mut self, random: &mut Random) {
        match random.below(6) {
            0 => random.mutate(&mut self.bytes),
            1 | 2 => {
                let mut body = self.bytes.split_off(HEADER.min(self.bytes.len()));
                random.mutate(&mut body);
                self.bytes.append(&mut body);
                self.fix_header();
            }
            3 => drop(self.descriptors.pop()),
            4 => self.descriptors.push(Arc::new(odd_descriptor(random))),
            _ if self.descriptors.is_empty() => {
                *self = RawPacket::of_garbage(random);
            }
            _ => {
                let at = random.below(self.descriptors.len() as u64) as usize;
                self.descriptors[at] = match random.below(3) {
                    0 => random.choose(&self.descriptors).clone(),
                    _ => Arc::new(odd_descriptor(random)),
                };
            }
        }
    }
}

/// Returns a descriptor that the receiver does not expect.
pub(crate) fn odd_descriptor(random: &mut Random) -> OwnedFd {
    let memory = |length| {
        let memory = memfd_create("hostile", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, length).unwrap();
        memory
    };
    let file = |path| OwnedFd::from(std::fs::File::open(path).unwrap());
    match random.below(10) {
        0 => file("/dev/null"),
        1 => file("/proc/self"),
        2 => rustix::pipe::pipe().unwrap().0,
        3 => memory(0),
        4 => memory(1),
        5 => memory(1 << 20),
        6 => memory(1 << 46),
        7 => sys::packet_pair().unwrap().0,
        8 => foreign_socket().unwrap_or_else(|| file("/dev/zero")),
        _ => full_socket(),
    }
}

/// Returns a packet socket of another family, if the system has one.
fn foreign_socket() -> Option<OwnedFd> {
    let kind = SocketType::SEQPACKET;
    [AddressFamily::from_raw(libc::AF_ALG as u16), AddressFamily::VSOCK]
        .into_iter()
        .find_map(|family| socket_with(family, kind, SocketFlags::CLOEXEC, None).ok())
}

/// Returns a socket to which nothing more can be sent, although its other end is open.
fn full_socket() -> OwnedFd {
    static OTHER_ENDS: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    let (near, far) = sys::packet_pair().unwrap();
    while sys::send_packet(near.as_fd(), &[0; 4096], &[]).is_ok() {}
    let mut ends = sys::lock(&OTHER_ENDS);
    ends.push(far);
    if ends.len() > 16 {
        ends.remove(0);
    }
    near
}

/// Packets that this process has sent, with duplicates of their descriptors. It can send them
/// again, take messages out of a channel that it has sent, and cut memory that it has sent.
static SENT: Mutex<VecDeque<RawPacket>> = Mutex::new(VecDeque::new());

/// Sends a message of this process, or sometimes something else.
pub(crate) fn send_changed(socket: BorrowedFd<'_>, bytes: Vec<u8>, fds: &[BorrowedFd<'_>]) {
    let kept = fds.iter().map(|fd| fd.try_clone_to_owned());
    let Ok(fds) = kept.collect::<io::Result<Vec<_>>>() else { return };
    let descriptors = fds.into_iter().map(Arc::new).collect();
    for packet in changed(RawPacket { bytes, descriptors }) {
        // The peer may have closed or filled the socket.
        let _ = packet.send(socket);
    }
}

/// Returns the packets to send in place of a packet.
fn changed(packet: RawPacket) -> Vec<RawPacket> {
    let mut sent = sys::lock(&SENT);
    let mut packets = fuzz::tamper(|random| match random.below(8) {
        0 => vec![packet.clone(), packet.clone()],
        1 => Vec::new(),
        2 if !sent.is_empty() => vec![sent[random.below(sent.len() as u64) as usize].clone()],
        3 => vec![RawPacket::of_garbage(random), packet.clone()],
        // The packet is late: it comes after the next one.
        4 => sent.pop_back().into_iter().chain([packet.clone()]).collect(),
        _ => {
            let mut packet = packet.clone();
            packet.tamper(random);
            vec![packet]
        }
    });
    let packets = packets.take().unwrap_or_else(|| vec![packet.clone()]);
    sent.push_back(packet);
    if sent.len() > 24 {
        sent.pop_front();
    }
    packets
}
