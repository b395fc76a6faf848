//! How much stack a thread has left.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

thread_local! {
    /// The addresses of this thread's stack, after the first call.
    static STACK: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Returns how many bytes of its stack the calling thread has not used yet. Returns `usize::MAX` if
/// the thread runs on memory that is not its own stack, as coroutines do, or if the system does not
/// report the bounds of the stack.
pub(crate) fn stack_left() -> usize {
    let (low, high) = STACK.get().unwrap_or_else(|| {
        let stack = stack().unwrap_or_default();
        STACK.set(Some((stack.start, stack.end)));
        (stack.start, stack.end)
    });
    let here = stack_address();
    if (low..high).contains(&here) { here - low } else { usize::MAX }
}

/// Returns an address in the frame of the caller, or near it.
#[inline]
pub(crate) fn stack_address() -> usize {
    let local = MaybeUninit::<u8>::uninit();
    local.as_ptr().addr()
}

fn stack() -> Option<Range<usize>> {
    // Miri has no stack in memory.
    if cfg!(miri) {
        return None;
    }
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the first call initializes the attributes, or fails. The others get what it
    // initialized, once each, and write into variables of the right types.
    let found = unsafe {
        libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) == 0 && {
            let attributes = attributes.assume_init_mut();
            let found = libc::pthread_attr_getstack(attributes, &mut lowest, &mut size) == 0;
            libc::pthread_attr_destroy(attributes);
            found
        }
    };
    let low = lowest.addr();
    found.then(|| low..low.saturating_add(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "has no stack")]
    fn a_thread_has_what_it_was_given_less_what_it_used() {
        let threads = std::thread::Builder::new().stack_size(1 << 20);
        let left = threads.spawn(|| (stack_left(), stack_left())).unwrap();
        let (first, second) = left.join().unwrap();
        // It may be the larger stack of a thread that has ended.
        assert!((900_000..1 << 30).contains(&first) && second <= first, "{first} {second}");
    }
}
