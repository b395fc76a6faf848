//! The few things that std lacks: pidfds, signal masks, the inherited socket, the exit hook.
//!
//! With the shared memory of [`region`](crate::region) the only home of `unsafe`. Another platform is
//! another file beside `linux.rs` with the same functions.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
compile_error!("offspring runs on Linux only for now; other systems get a file of their own beside src/sys/linux.rs");
