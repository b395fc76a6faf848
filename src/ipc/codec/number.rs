//! Integers of varying length: seven bits per byte, lowest first. The top bit means that another
//! byte follows.

use super::{Error, Result, SHORT};
use crate::ipc::codec::Input;

/// The most bytes that one number takes.
pub(in crate::ipc::codec) const LONGEST: usize = 19;

macro_rules! numbers {
    ($number:ty, $write:ident, $read:ident) => {
        /// Writes the number into `buffer`. Returns how many bytes it took.
        #[inline]
        pub(in crate::ipc::codec) fn $write(
            mut number: $number,
            buffer: &mut [u8; LONGEST],
        ) -> usize {
            let mut length = 0;
            while number > 0x7f {
                buffer[length] = number as u8 | 0x80;
                number >>= 7;
                length += 1;
            }
            buffer[length] = number as u8;
            length + 1
        }

        /// Reads a number of this many bits.
        #[inline]
        pub(in crate::ipc::codec) fn $read<'de>(
            input: &mut impl Input<'de>,
            bits: u32,
        ) -> Result<$number> {
            let mut number: $number = 0;
            for shift in (0..bits).step_by(7) {
                let byte = input.byte().ok_or_else(|| Error::new(SHORT))?;
                if shift + 7 > bits && u32::from(byte) >> (bits - shift) != 0 {
                    break;
                }
                number |= <$number>::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    return Ok(number);
                }
            }
            Err(Error::new("a number is too large"))
        }
    };
}

numbers!(u64, write, read);
numbers!(u128, write_wide, read_wide);

/// Returns the bytes of a number of up to eight bytes, with the first one lowest, and how many they
/// are.
#[inline]
pub(in crate::ipc::codec) fn in_word(number: u64) -> Option<(u64, usize)> {
    if number >> 56 != 0 {
        return None;
    }
    // Moves each seven bits to a byte of their own: first the upper half of them all, then the upper
    // half of each half, and so on.
    let halves = number & 0x0fff_ffff | (number & 0x00ff_ffff_f000_0000) << 4;
    let quarters = halves & 0x0000_3fff_0000_3fff | (halves & 0x0fff_c000_0fff_c000) << 2;
    let bytes = quarters & 0x007f_007f_007f_007f | (quarters & 0x3f80_3f80_3f80_3f80) << 1;
    let length = (u64::BITS - (number | 1).leading_zeros()).div_ceil(7);
    let more = 0x8080_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
    Some((bytes | more, length as usize))
}

pub(in crate::ipc::codec) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(in crate::ipc::codec) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

pub(in crate::ipc::codec) fn zigzag_wide(number: i128) -> u128 {
    ((number << 1) ^ (number >> 127)) as u128
}

pub(in crate::ipc::codec) fn unzigzag_wide(number: u128) -> i128 {
    (number >> 1) as i128 ^ -((number & 1) as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_a_word_has_the_same_bytes() {
        let numbers = (0..u64::BITS).flat_map(|bits| {
            let power = 1u64 << bits;
            [power - 1, power, power + 1, power | 0x0055_aa5a_a5a5_5a5a & (power - 1)]
        });
        for number in numbers {
            let mut buffer = [0; LONGEST];
            let length = write(number, &mut buffer);
            match in_word(number) {
                Some((word, in_word)) => {
                    assert_eq!(word.to_le_bytes()[..in_word], buffer[..length], "{number:#x}");
                    assert_eq!(word.to_le_bytes()[in_word..], [0; 8][in_word..], "{number:#x}");
                }
                None => assert!(length > 8, "{number:#x}"),
            }
        }
    }
}
