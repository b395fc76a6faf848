//! The bytes of an item. Short ones need no allocation, and are copied as whole words.

/// The most bytes that need no allocation: with the length and the enum's tag they are 32 bytes.
pub(crate) const INLINE: usize = 24;

#[derive(Clone, Debug)]
pub(crate) enum SmallBytes {
    /// In words, so that they stay in registers between two memories. Bytes after `length` are
    /// unspecified.
    Inline {
        length: u8,
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

    /// Takes at most [`INLINE`] bytes from the whole words that hold them.
    #[inline]
    pub(crate) fn from_words(length: usize, word: impl Fn(usize) -> u64) -> SmallBytes {
        // In memory order: the first byte comes first.
        let word = |index| {
            if index * 8 < length { u64::to_le(word(index)) } else { 0 }
        };
        SmallBytes::Inline { length: length as u8, data: [word(0), word(1), word(2)] }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            SmallBytes::Inline { length, data } => {
                &bytemuck::cast_slice(data)[..usize::from(*length)]
            }
            SmallBytes::Heap(bytes) => bytes,
        }
    }
}

/// Returns the first word of `bytes`, padded with zeroes. Without a call of `memcpy`, which takes
/// longer than the copy.
#[inline]
pub(crate) fn word(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*whole);
    }
    let (front, back) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>());
    if let (Some(front), Some(back)) = (front, back) {
        // They overlap if there are fewer than eight.
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
    fn bytes_of_every_length_come_back() {
        for length in 0..100 {
            let bytes: Vec<u8> = (1..=length).collect();
            assert_eq!(SmallBytes::new(&bytes).as_slice(), bytes);
        }
    }
}
