//! Ends a worker that makes a forbidden call, if its sandbox asks for that.
//!
//! The filter then raises SIGSYS in place of the call. The handler sends the number of the call to
//! the parent, and lets the signal end the process. A thread that blocks the signal ends the
//! process as well, without the report. So a hostile worker can hide which call it made, and can do
//! no more.

use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// What the handler sends: a packet whose last four bytes are the number of the call.
#[derive(Debug)]
pub(crate) struct ViolationReport {
    /// Stays open as long as this process lives.
    pub(crate) socket: RawFd,
    pub(crate) packet: Vec<u8>,
}

/// The longest packet: the handler has it on its stack.
const PACKET_MAX: usize = 64;

static REPORT: OnceLock<ViolationReport> = OnceLock::new();

/// Installs the handler.
pub(super) fn arm(report: ViolationReport) -> io::Result<()> {
    debug_assert!((4..=PACKET_MAX).contains(&report.packet.len()));
    let _ = REPORT.set(report);
    // SAFETY: plain data, whose fields are all set. `end` makes only calls that are allowed in a
    // handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = end as *const () as usize;
        // The second one ends the process.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        match libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

extern "C" fn end(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    /// The beginning of a `siginfo_t` of a filter.
    #[repr(C)]
    struct Violation {
        signal: libc::c_int,
        error: libc::c_int,
        code: libc::c_int,
        place: *const libc::c_void,
        call: libc::c_int,
    }
    const SYS_SECCOMP: libc::c_int = 1;
    // SAFETY: the kernel passes a `siginfo_t`, which is larger than its beginning, and of this
    // layout if its code says so; the packet is on this stack. `raise` only marks the signal as
    // pending, since it is blocked until the handler returns. Then its default action ends the
    // process.
    unsafe {
        let violation = info.cast::<Violation>();
        if (*violation).code == SYS_SECCOMP {
            if let Some(report) = REPORT.get() {
                let mut packet = [0; PACKET_MAX];
                let length = report.packet.len().clamp(4, PACKET_MAX);
                for (to, from) in packet.iter_mut().zip(&report.packet) {
                    *to = *from;
                }
                let number = (*violation).call.to_le_bytes();
                for (to, from) in packet[length - 4..length].iter_mut().zip(number) {
                    *to = from;
                }
                let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
                libc::send(report.socket, packet.as_ptr().cast(), length, flags);
            }
        }
        libc::raise(signal);
    }
}
