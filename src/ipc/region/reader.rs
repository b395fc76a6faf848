//! Bytes of a region as an input of the codec.

use crate::ipc::codec::Input;
use crate::ipc::region::Region;

/// Reads the bytes of a region in order, each of them once.
#[derive(Debug)]
pub(crate) struct Reader<'r> {
    region: &'r Region,
    /// Bytes that were copied out; `window[at..]` have not been read yet.
    window: Vec<u8>,
    at: usize,
    /// The offset of the bytes that have not been copied out.
    next: usize,
    end: usize,
}

impl<'r> Reader<'r> {
    /// How many bytes are copied out ahead.
    const WINDOW: usize = 8 << 10;

    pub(in crate::ipc::region) fn new(
        region: &'r Region,
        offset: usize,
        length: usize,
    ) -> Reader<'r> {
        Reader { region, window: Vec::new(), at: 0, next: offset, end: offset + length }
    }

    #[cold]
    fn refill(&mut self) {
        let count = (self.end - self.next).min(Reader::WINDOW);
        self.window.clear();
        self.at = 0;
        self.region.read_behind(self.next, count, &mut self.window);
        self.next += count;
    }

    fn of_window(&mut self, count: usize) -> &[u8] {
        let taken = &self.window[self.at..];
        let taken = &taken[..taken.len().min(count)];
        self.at += taken.len();
        taken
    }
}

impl<'de> Input<'de> for Reader<'_> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        if self.at == self.window.len() {
            self.refill();
        }
        let byte = *self.window.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn append(&mut self, count: usize, bytes: &mut Vec<u8>) -> bool {
        if count > self.left() {
            return false;
        }
        let before = bytes.len();
        bytes.reserve(count);
        bytes.extend_from_slice(self.of_window(count));
        let rest = count - (bytes.len() - before);
        self.region.read_behind(self.next, rest, bytes);
        self.next += rest;
        true
    }

    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        if bytes.len() > self.left() {
            return false;
        }
        let mut filled = 0;
        while filled < bytes.len() {
            if self.at == self.window.len() {
                self.refill();
            }
            let taken = self.of_window(bytes.len() - filled);
            bytes[filled..filled + taken.len()].copy_from_slice(taken);
            filled += taken.len();
        }
        true
    }

    #[inline]
    fn left(&self) -> usize {
        self.window.len() - self.at + (self.end - self.next)
    }
}
