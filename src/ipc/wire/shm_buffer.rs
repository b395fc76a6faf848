//! Shared memory for one long value, written while the value is encoded.

use std::io;

use crate::ipc::codec::Spill;
use crate::ipc::region::Region;
use crate::ipc::wire::{Envelope, WireHandle};

/// Grows to the size that the encoder announces, and at least twofold.
#[derive(Debug, Default)]
pub(crate) struct ShmBuffer {
    region: Option<Region>,
    length: usize,
    failed: Option<io::Error>,
}

impl ShmBuffer {
    /// Returns the value in this memory.
    pub(crate) fn into_envelope(self, handles: Vec<WireHandle>) -> io::Result<Envelope> {
        match (self.failed, self.region) {
            (Some(error), _) => Err(error),
            (None, Some(region)) => Ok(Envelope::in_region(region, self.length, handles)),
            (None, None) => Err(io::Error::other("nothing was written")),
        }
    }

    fn longer(&self, total: usize) -> io::Result<Region> {
        let longer = Region::new(total.max(self.length.saturating_mul(2)))?;
        if let Some(region) = &self.region {
            region.copy_to(0, self.length, |at, bytes| longer.write(at, bytes));
        }
        Ok(longer)
    }
}

impl Spill for ShmBuffer {
    fn reserve(&mut self, total: usize) {
        if self.failed.is_none() && self.region.as_ref().is_none_or(|region| region.len() < total) {
            match self.longer(total) {
                Ok(region) => self.region = Some(region),
                Err(error) => self.failed = Some(error),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.reserve(self.length + bytes.len());
        if let (Some(region), None) = (&self.region, &self.failed) {
            region.write(self.length, bytes);
        }
        self.length += bytes.len();
    }

    fn clear(&mut self) {
        self.length = 0;
    }
}
