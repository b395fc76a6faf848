//! A part of a shared region, which handles hold and send.

use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::CreateError;
use crate::ipc::region::{Memory, Region};
use crate::ipc::wire::{self, WireHandle};

/// Bytes of a region that other handles may refer to as well, in any process.
#[derive(Clone, Debug)]
pub(super) struct SharedPart {
    pub(super) region: Arc<Region>,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// A part as it is encoded; its memory travels beside the value.
#[derive(Serialize, Deserialize)]
struct PartToken {
    index: u32,
    offset: u64,
    length: u64,
}

impl SharedPart {
    /// Returns new memory of zeroes for `count` elements of this size.
    ///
    /// `kind` identifies the type of the content, as far as two processes of one program can
    /// compare it.
    pub(super) fn zeroed(kind: u64, count: usize, size: usize) -> Result<SharedPart, CreateError> {
        // A length that overflows is more memory than there is: the system refuses it.
        SharedPart::of(Region::labelled(count.saturating_mul(size), kind))
    }

    /// The whole region.
    pub(super) fn of(region: io::Result<Region>) -> Result<SharedPart, CreateError> {
        let region = Arc::new(region.map_err(CreateError::io("make shared memory"))?);
        let length = region.len();
        Ok(SharedPart { region, offset: 0, length })
    }

    pub(super) fn address(&self) -> *mut u8 {
        self.region.address(self.offset, self.length)
    }

    /// Returns the elements of this size in `range`, as a part of the same memory.
    ///
    /// # Panics
    ///
    /// If the range reaches beyond the end.
    #[track_caller]
    pub(super) fn slice(&self, range: impl RangeBounds<usize>, size: usize) -> SharedPart {
        let range = bounds(range, self.length / size);
        SharedPart {
            region: self.region.clone(),
            offset: self.offset + range.start * size,
            length: range.len() * size,
        }
    }

    pub(super) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        wire::may_note().map_err(wire::explain::<S::Error>)?;
        let index = wire::note(WireHandle::Memory(self.region.memory()))
            .map_err(wire::explain::<S::Error>)?;
        PartToken { index, offset: self.offset as u64, length: self.length as u64 }
            .serialize(serializer)
    }

    /// `map` maps memory, and checks that it is of the expected kind.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        size: usize,
        map: impl FnOnce(&Memory) -> io::Result<Region>,
        deserializer: D,
    ) -> Result<SharedPart, D::Error> {
        let token = PartToken::deserialize(deserializer)?;
        let WireHandle::Memory(memory) =
            wire::claim(token.index).map_err(wire::explain_de::<D::Error>)?
        else {
            return Err(wire::explain_de("the handle of shared memory came with another thing"));
        };
        let region = map(&memory).map_err(|error| wire::explain_de(&error.to_string()))?;
        let part = usize::try_from(token.offset).ok().zip(usize::try_from(token.length).ok());
        let part = part.filter(|&(offset, length)| {
            let whole = size == 0 || (offset % size == 0 && length % size == 0);
            whole && offset.checked_add(length).is_some_and(|end| end <= region.len())
        });
        let (offset, length) = part.ok_or_else(|| {
            wire::explain_de::<D::Error>("the shared memory is smaller than its handle claims")
        })?;
        Ok(SharedPart { region: Arc::new(region), offset, length })
    }
}

/// Returns the indices of a range out of `count`.
///
/// # Panics
///
/// If the range reaches beyond the end, like indexing a slice.
#[track_caller]
fn bounds(range: impl RangeBounds<usize>, count: usize) -> Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => count,
    };
    assert!(
        start <= end && end <= count,
        "range {start}..{end} is out of range for {count} shared elements"
    );
    start..end
}
