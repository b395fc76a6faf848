//! The most bytes of one value.

use std::sync::atomic::{AtomicUsize, Ordering};

static LIMIT: AtomicUsize = AtomicUsize::new(2 << 30);

/// Returns the most bytes that one value may have when this process sends or receives it. The
/// default is 2 GiB; see [`set_message_limit`].
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert!(offspring::message_limit() >= 1 << 20);
/// # Ok(())
/// # }
/// ```
#[inline]
#[must_use]
pub fn message_limit() -> usize {
    LIMIT.load(Ordering::Relaxed)
}

/// Sets the most bytes that one value (a message, a queue item, a worker, an output) may have when
/// this process sends or receives it. The default is 2 GiB.
///
/// The limit is on the encoded value, and applies to all threads from this call on. Sending a
/// larger value returns an error. So does receiving one, from a process with a higher limit, before
/// memory is allocated for it.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// offspring::set_message_limit(1 << 20);
/// let queue = offspring::Queue::unbounded()?;
/// assert!(queue.put(vec![0u8; 2 << 20]).is_err());
/// # Ok(())
/// # }
/// ```
pub fn set_message_limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// The most bytes of an encoded value with its form.
#[inline]
pub(in crate::ipc::wire) fn limit() -> usize {
    message_limit().saturating_add(1)
}
