//! Random input for tests with hostile peers: the same each time.

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Random {
        Random::of(0x9e37_79b9_7f4a_7c15)
    }

    /// Other input for another seed, which must not be 0.
    pub(crate) fn of(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(crate) fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }

    /// Returns a number that is small, near `limit`, near the end of the range, or any.
    pub(crate) fn number(&mut self, limit: u64) -> u64 {
        match self.below(4) {
            0 => self.below(10),
            1 => limit.wrapping_add(self.below(64)).wrapping_sub(32),
            2 => u64::MAX - self.below(1 << 20),
            _ => self.below(u64::MAX),
        }
    }
}
