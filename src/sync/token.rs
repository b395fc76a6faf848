//! Numbers of this process's threads, small enough for a lock word.

use std::cell::Cell;
use std::sync::Mutex;

use crate::sync::word::THREADS_MAX;
use crate::sys::lock;

thread_local! {
    /// Without a destructor, so that it can be read to the very end of the thread.
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static LEASE: Lease = const { Lease(Cell::new(0)) };
}

/// Gives the number back when its thread ends.
struct Lease(Cell<u32>);

#[derive(Debug)]
struct Numbers {
    free: Vec<u32>,
    next: u32,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers {
    free: Vec::new(),
    next: 1,
});

/// The number of this thread; no other thread of the process has it as long as this one lives.
#[inline]
pub(super) fn number() -> u32 {
    match NUMBER.get() {
        0 => assign(),
        number => number,
    }
}

#[cold]
fn assign() -> u32 {
    let mut numbers = lock(&NUMBERS);
    let number = numbers.free.pop().unwrap_or(numbers.next);
    if number == numbers.next {
        // Beyond what a word holds threads share the last number: they only lose the detection of deadlocks.
        numbers.next = (number + 1).min(THREADS_MAX - 1);
    }
    drop(numbers);
    NUMBER.set(number);
    // A thread that is past its destructors keeps the number for ever.
    let _ = LEASE.try_with(|lease| lease.0.set(number));
    number
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What locks in a later destructor of this thread is given another number.
        NUMBER.set(0);
        lock(&NUMBERS).free.push(self.0.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_numbers_of_their_own_that_are_used_again() {
        let mine = number();
        assert_eq!(mine, number());
        let others: Vec<u32> = (0..3)
            .map(|_| std::thread::spawn(number).join().unwrap())
            .collect();
        assert!(others.iter().all(|&other| other != mine && other > 0));
    }
}
