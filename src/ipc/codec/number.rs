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
