//! Helpers for a hostile child that attacks its control socket.

use std::os::fd::OwnedFd;

use crate::error::PanicReport;
use crate::ipc::wire;
use crate::process::handshake::{ChildMessage, ParentMessage};

/// The control socket of this child.
pub(crate) fn control_socket() -> Option<OwnedFd> {
    super::child::control::socket()
}

/// Each message that a child sends, encoded, and one that no child sends.
pub(crate) fn child_messages() -> Vec<Vec<u8>> {
    let text = || "\u{1b}[31mtext".to_owned();
    let report = PanicReport::new(text(), Some(text()), None, Some(text()));
    let messages = [
        ChildMessage::EarlyStderr,
        ChildMessage::Mismatch(text()),
        ChildMessage::Failed(text()),
        ChildMessage::BadValue(text()),
        ChildMessage::Started,
        ChildMessage::Panicked { in_run: true, report: report.clone() },
        ChildMessage::Panicked { in_run: false, report },
        ChildMessage::Returned(vec![1; 100]),
        ChildMessage::ReturnedParcel,
        ChildMessage::Unsendable(text()),
    ];
    let mut packets: Vec<_> = messages
        .iter()
        .map(|message| wire::encode(message, wire::Shape::Own).unwrap().bytes)
        .collect();
    packets.push(wire::encode(&ParentMessage::Detach, wire::Shape::Own).unwrap().bytes);
    packets
}
