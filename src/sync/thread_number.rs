//! Numbers for this process's threads, small enough for a lock word.

use std::cell::Cell;
use std::sync::Mutex;

use crate::sync::word::THREADS_MAX;
use crate::sys::{self, lock};

thread_local! {
    static RETURN_AT_EXIT: ReturnAtExit = const { ReturnAtExit(Cell::new(0)) };
}

/// Returns the number when its thread ends.
struct ReturnAtExit(Cell<u32>);

#[derive(Debug)]
struct FreeNumbers {
    returned: Vec<u32>,
    next: u32,
}

static FREE: Mutex<FreeNumbers> = Mutex::new(FreeNumbers { returned: Vec::new(), next: 1 });

/// Returns the number of the calling thread. No other thread of the process has it while this one
/// lives. Must not be called in a fork.
pub(super) fn current() -> u32 {
    match known() {
        0 => assign(),
        number => number,
    }
}

/// Returns the number of the calling thread if it has one already; otherwise 0, which is what it
/// returns in a fork.
#[inline]
pub(super) fn known() -> u32 {
    sys::thread_number()
}

fn assign() -> u32 {
    let mut free = lock(&FREE);
    let number = free.returned.pop().unwrap_or(free.next);
    if number == free.next {
        // If there are more threads than a word can number, they share the last number. Such a
        // thread is refused a lock as a deadlock while another one with that number holds it.
        free.next = (number + 1).min(THREADS_MAX - 1);
    }
    drop(free);
    sys::set_thread_number(number);
    // A thread that is past its destructors keeps the number for ever.
    let _ = RETURN_AT_EXIT.try_with(|at_exit| at_exit.0.set(number));
    number
}

impl Drop for ReturnAtExit {
    fn drop(&mut self) {
        // A later destructor of this thread that locks gets a new number.
        sys::set_thread_number(0);
        lock(&FREE).returned.push(self.0.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_numbers_of_their_own_that_are_used_again() {
        let mine = current();
        assert_eq!(mine, current());
        let others: Vec<u32> =
            (0..3).map(|_| std::thread::spawn(current).join().unwrap()).collect();
        assert!(others.iter().all(|&other| other != mine && other > 0));
    }
}
