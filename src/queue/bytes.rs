//! The bytes of an item; short ones without an allocation.

/// With its length and the enum's tag 32 bytes.
const INLINE: usize = 30;

#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    Inline { length: u8, data: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl Bytes {
    pub(crate) fn new(bytes: &[u8]) -> Bytes {
        if bytes.len() > INLINE {
            return Bytes::Heap(bytes.into());
        }
        let mut data = [0; INLINE];
        data[..bytes.len()].copy_from_slice(bytes);
        Bytes::Inline {
            length: bytes.len() as u8,
            data,
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Inline { length, data } => &data[..usize::from(*length)],
            Bytes::Heap(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_come_back() {
        for length in 0..100 {
            let bytes: Vec<u8> = (0..length).collect();
            assert_eq!(Bytes::new(&bytes).as_slice(), bytes);
        }
    }
}
