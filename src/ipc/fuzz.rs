//! Random input for tests with hostile peers: the same for the same seed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Returns how many rounds a test runs. Miri takes a thousand times as long for each.
#[cfg(test)]
pub(crate) const fn rounds(count: u32) -> u32 {
    if cfg!(miri) { count / 100 } else { count }
}

#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Random {
        Random::of(0x9e37_79b9_7f4a_7c15)
    }

    /// Returns the input for a seed.
    pub(crate) fn of(seed: u64) -> Random {
        // A generator at 0 would stay at 0, and similar seeds would begin alike.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..4).for_each(|_| _ = random.below(1));
        random
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn choose<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    pub(crate) fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }

    /// Returns a number that is small, near `limit`, near the end of the range, or arbitrary.
    pub(crate) fn number(&mut self, limit: u64) -> u64 {
        match self.below(4) {
            0 => self.below(10),
            1 => limit.wrapping_add(self.below(64)).wrapping_sub(32),
            2 => u64::MAX - self.below(1 << 20),
            _ => self.below(u64::MAX),
        }
    }

    /// Changes bytes at one to four places. At each, cuts the rest off, inserts bytes, inserts the
    /// longest length that a value can claim, or replaces a byte.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const LENGTH: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1) as u64) as usize;
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.splice(at..at, self.bytes(16)).for_each(drop),
                2 => bytes.splice(at..at, LENGTH).for_each(drop),
                // Tags, lengths and indices are small numbers.
                3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.below(8) as u8),
                _ => {
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.below(256) as u8)
                }
            }
        }
    }
}

/// If true, this process is hostile. Readable without the lock.
static IS_HOSTILE: AtomicBool = AtomicBool::new(false);
/// Its source of randomness, and how rarely it tampers with what it sends.
static HOSTILE: Mutex<(Random, u64)> = Mutex::new((Random(1), 1));

/// Makes this process hostile: from now on it changes one in `rarity` of the ring entries and
/// messages that it sends.
pub(crate) fn become_hostile(seed: u64, rarity: u64) {
    *HOSTILE.lock().unwrap_or_else(PoisonError::into_inner) = (Random::of(seed), rarity);
    IS_HOSTILE.store(true, Ordering::SeqCst);
}

pub(crate) fn is_hostile() -> bool {
    IS_HOSTILE.load(Ordering::Relaxed)
}

/// Calls `act` if this process is hostile, at random.
pub(crate) fn tamper<R>(act: impl FnOnce(&mut Random) -> R) -> Option<R> {
    if !is_hostile() {
        return None;
    }
    let mut hostile = HOSTILE.lock().unwrap_or_else(PoisonError::into_inner);
    let (random, rarity) = &mut *hostile;
    random.one_in(*rarity).then(|| act(random))
}

/// Returns the entry that a hostile process writes in place of this ring entry, if it tampers with
/// it.
pub(crate) fn tampered_entry(tag: u32, payload: &[u8]) -> Option<(u32, Vec<u8>)> {
    tamper(|random| {
        let mut bytes = payload.to_vec();
        let tag = match random.below(4) {
            0 => random.below(12) as u32,
            1 => random.below(1 << 16) as u32,
            _ => tag,
        };
        match random.below(4) {
            0 => {}
            // The word in which the entry has its lease, offset or length.
            1 if bytes.len() >= 8 => {
                let at = random.below(bytes.len() as u64 / 8) as usize * 8;
                bytes[at..at + 8].copy_from_slice(&random.number(1 << 17).to_le_bytes());
            }
            _ => random.mutate(&mut bytes),
        }
        // There may be no room for a longer entry.
        bytes.truncate(payload.len());
        (tag, bytes)
    })
}
