//! The bytes of an item. Short ones need no allocation, and are copied as whole words.

/// The most bytes that need no allocation. With the length and the enum's tag, they take 32 bytes.
pub(crate) const INLINE: usize = 24;

/// The tag and the length are half words, not bytes. If a value is written in small pieces and then
/// copied in larger ones, the processor waits until the pieces have reached the cache.
#[derive(Clone, Debug)]
#[repr(u32)]
pub(crate) enum SmallBytes {
    /// Stored as words, so that they stay in registers on their way between two memories. Bytes
    /// after `length` are unspecified.
    Inline {
        length: u32,
        data: [u64; INLINE / 8],
    },
    Heap(Box<[u8]>),
}

impl SmallBytes {
    pub(crate) fn new(bytes: &[u8]) -> SmallBytes {
        if bytes.len() > INLINE {
            return SmallBytes::Heap(bytes.into());
        }
        SmallBytes::from_words(bytes.len(), |index| word(&bytes[index * 8..]))
    }

    /// Makes the value from `length` bytes (at most [`INLINE`]) in whole words.
    #[inline]
    pub(crate) fn from_words(length: usize, word: impl Fn(usize) -> u64) -> SmallBytes {
        // In memory order: the first byte comes first.
        let word = |index| {
            if index * 8 < length { u64::to_le(word(index)) } else { 0 }
        };
        SmallBytes::Inline { length: length as u32, data: [word(0), word(1), word(2)] }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            SmallBytes::Inline { length, data } => &bytemuck::cast_slice(data)[..*length as usize],
            SmallBytes::Heap(bytes) => bytes,
        }
    }
}

/// Returns the first word of `bytes`, padded with zeroes. Does not call `memcpy`, which takes
/// longer than the copy itself.
#[inline]
pub(crate) fn word(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*whole);
    }
    let (front, back) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>());
    if let (Some(front), Some(back)) = (front, back) {
        // The two reads overlap if there are fewer than eight bytes.
        let shift = (bytes.len() - 4) * 8;
        return u64::from(u32::from_le_bytes(*front))
            | u64::from(u32::from_le_bytes(*back)) << shift;
    }
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_and_what_wraps_them_are_32_bytes() {
        assert_eq!(size_of::<SmallBytes>(), 32);
        assert_eq!(size_of::<Option<SmallBytes>>(), 32);
    }

    #[test]
    fn bytes_of_every_length_come_back() {
        for length in 0..100 {
            let bytes: Vec<u8> = (1..=length).collect();
            assert_eq!(SmallBytes::new(&bytes).as_slice(), bytes);
        }
    }
}
