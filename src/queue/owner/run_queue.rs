//! Stored items, in the order in which they will be taken.
//!
//! Items that came out of a ring are kept as a *run*: the bytes of their ring entries, one after
//! the other. They are written to the next ring unchanged, so moving a thousand of them is one
//! copy.

use std::collections::VecDeque;

use crate::ipc::ring::{self, Corrupt};
use crate::ipc::small_bytes::SmallBytes;
use crate::queue::item::{Item, Payload};
use crate::queue::layout::Tag;

/// A run that has reached this length is not extended any more.
const RUN_MAX: usize = 64 << 10;
/// A run with more capacity than this is freed when it is empty.
const SPARE_MAX: usize = 32 << 10;

#[derive(Debug, Default)]
pub(in crate::queue) struct RunQueue {
    /// No run among the parts is empty.
    parts: VecDeque<Part>,
    count: usize,
    /// The memory of a run that became empty, kept for the next one.
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Part {
    Run(Run),
    /// An item that was delivered before, or is a parcel.
    One(Item),
}

/// Valid and complete entries of items that no consumer has had. They were checked when they came
/// in.
#[derive(Debug, Default)]
struct Run {
    bytes: Vec<u8>,
    /// The offset of the first remaining entry.
    start: usize,
    count: usize,
}

impl Run {
    fn entries(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Returns the size and the number of the first entries: at most `max` entries, and at most
    /// `room` bytes.
    fn front(&self, max: usize, room: usize) -> (usize, usize) {
        let whole = self.bytes.len() - self.start;
        if max >= self.count && room >= whole {
            return (whole, self.count);
        }
        let (mut end, mut count) = (0, 0);
        while count < max.min(self.count) {
            let size = ring::entry_size(ring::payload_at(&self.entries()[end..]).len()) as usize;
            if end + size > room {
                break;
            }
            (end, count) = (end + size, count + 1);
        }
        (end, count)
    }

    fn pop(&mut self) -> Item {
        let payload = ring::payload_at(self.entries());
        let size = ring::entry_size(payload.len()) as usize;
        let payload = Payload::Bytes(SmallBytes::new(payload));
        self.start += size;
        self.count -= 1;
        Item { payload, attempts: 0 }
    }
}

impl RunQueue {
    pub(in crate::queue) fn len(&self) -> usize {
        self.count
    }

    pub(in crate::queue) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(in crate::queue) fn clear(&mut self) {
        *self = RunQueue::default();
    }

    pub(in crate::queue) fn push_back(&mut self, item: Item) {
        match &item.payload {
            Payload::Bytes(bytes) if item.attempts == 0 => self.push_back_bytes(bytes.as_slice()),
            _ => {
                self.parts.push_back(Part::One(item));
                self.count += 1;
            }
        }
    }

    /// Adds an item that no consumer has had, and that fits a ring entry.
    pub(in crate::queue) fn push_back_bytes(&mut self, payload: &[u8]) {
        let run = self.open_run();
        ring::write_entry(&mut run.bytes, Tag::Put as u32, payload);
        run.count += 1;
        self.count += 1;
    }

    pub(in crate::queue) fn push_front(&mut self, item: Item) {
        self.parts.push_front(Part::One(item));
        self.count += 1;
    }

    pub(in crate::queue) fn pop_front(&mut self) -> Option<Item> {
        let item = match self.parts.pop_front()? {
            Part::One(item) => item,
            Part::Run(mut run) => {
                let item = run.pop();
                if run.count > 0 {
                    self.parts.push_front(Part::Run(run));
                } else {
                    self.keep_memory(run);
                }
                item
            }
        };
        self.count -= 1;
        Some(item)
    }

    /// Adds the entries that `take` appends to the bytes it is given. `take` returns their number.
    pub(in crate::queue) fn push_run(
        &mut self,
        take: impl FnOnce(&mut Vec<u8>) -> Result<usize, Corrupt>,
    ) -> Result<usize, Corrupt> {
        let run = self.open_run();
        let before = run.bytes.len();
        let taken = take(&mut run.bytes);
        if taken.is_err() {
            run.bytes.truncate(before);
        }
        run.count += taken.as_ref().unwrap_or(&0);
        if run.count == 0 {
            self.close_run(VecDeque::pop_back);
        }
        self.count += taken.as_ref().unwrap_or(&0);
        taken
    }

    /// Adds entries that are known to be valid.
    pub(in crate::queue) fn push_entries(&mut self, entries: &[u8], count: usize) {
        // Cannot fail, because the closure does not.
        let _ = self.push_run(|bytes| {
            bytes.extend_from_slice(entries);
            Ok(count)
        });
    }

    /// Returns the first entries and their number, if the first item is in a run: at most `max`
    /// entries, and at most `room` bytes.
    pub(in crate::queue) fn front_run(&self, max: usize, room: usize) -> Option<(&[u8], usize)> {
        let Some(Part::Run(run)) = self.parts.front() else {
            return None;
        };
        let (end, count) = run.front(max, room);
        Some((&run.entries()[..end], count))
    }

    /// Drops the entries that [`front_run`](RunQueue::front_run) returned.
    pub(in crate::queue) fn skip_run(&mut self, bytes: usize, count: usize) {
        if let Some(Part::Run(run)) = self.parts.front_mut() {
            run.start += bytes;
            run.count -= count;
            self.count -= count;
            if run.count == 0 {
                self.close_run(VecDeque::pop_front);
            }
        }
    }

    /// Drops the items whose entries fill these first bytes of a ring.
    pub(in crate::queue) fn skip(&mut self, mut bytes: usize) -> Result<(), Corrupt> {
        while bytes > 0 {
            match self.parts.front().ok_or(Corrupt)? {
                Part::Run(run) => {
                    let (size, count) = run.front(usize::MAX, bytes);
                    if count == 0 {
                        return Err(Corrupt);
                    }
                    bytes -= size;
                    self.skip_run(size, count);
                }
                Part::One(item) => {
                    bytes = bytes.checked_sub(entry_size(item)).ok_or(Corrupt)?;
                    self.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Returns the size of the ring entries of all items before this index.
    pub(in crate::queue) fn offset(&self, mut index: usize) -> usize {
        let mut offset = 0;
        for part in &self.parts {
            if index == 0 {
                break;
            }
            let (bytes, count) = match part {
                Part::Run(run) => run.front(index, usize::MAX),
                Part::One(item) => (entry_size(item), 1),
            };
            (offset, index) = (offset + bytes, index - count);
        }
        offset
    }

    /// Returns a run at the end that can be extended.
    fn open_run(&mut self) -> &mut Run {
        if !matches!(self.parts.back(), Some(Part::Run(run)) if run.bytes.len() < RUN_MAX) {
            let bytes = std::mem::take(&mut self.spare);
            self.parts.push_back(Part::Run(Run { bytes, start: 0, count: 0 }));
        }
        match self.parts.back_mut() {
            Some(Part::Run(run)) => run,
            _ => unreachable!("one was pushed"),
        }
    }

    /// Removes an empty run.
    fn close_run(&mut self, pop: fn(&mut VecDeque<Part>) -> Option<Part>) {
        if let Some(Part::Run(run)) = pop(&mut self.parts) {
            self.keep_memory(run);
        }
    }

    fn keep_memory(&mut self, mut run: Run) {
        if run.bytes.capacity() <= SPARE_MAX {
            run.bytes.clear();
            self.spare = run.bytes;
        }
    }
}

/// Returns the size of an item's ring entry.
pub(in crate::queue) fn entry_size(item: &Item) -> usize {
    let length = match &item.payload {
        Payload::Bytes(bytes) => bytes.as_slice().len(),
        // The parcel's number.
        Payload::Parcel(_) => 8,
    };
    ring::entry_size(length) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::fuzz::Random;

    fn item(number: u32, attempts: u32) -> Item {
        // All lengths, so that some entries are one word and others many.
        let bytes = number.to_le_bytes().repeat(number as usize % 23 + 1);
        let payload = Payload::Bytes(SmallBytes::new(&bytes));
        Item { payload, attempts }
    }

    fn number(item: &Item) -> u32 {
        let Payload::Bytes(bytes) = &item.payload else { panic!("no bytes") };
        u32::from_le_bytes(bytes.as_slice()[..4].try_into().unwrap())
    }

    /// Returns the ring entries of `count` items from `first` on.
    fn entries(first: u32, count: u32) -> Vec<u8> {
        let mut entries = Vec::new();
        for n in first..first + count {
            let Payload::Bytes(bytes) = item(n, 0).payload else { unreachable!() };
            ring::write_entry(&mut entries, Tag::Put as u32, bytes.as_slice());
        }
        entries
    }

    #[test]
    fn whatever_way_items_come_and_go_their_order_is_kept() {
        let mut random = Random::new();
        let mut items = RunQueue::default();
        let (mut first, mut next) = (1_000_000u32, 1_000_000u32);
        for _ in 0..20_000 {
            match random.below(8) {
                0 => {
                    items.push_back(item(next, 0));
                    next += 1;
                }
                1 => {
                    items.push_back(item(next, 3));
                    next += 1;
                }
                2 => {
                    first -= 1;
                    items.push_front(item(first, random.below(2) as u32));
                }
                3 => {
                    let count = random.below(40) as u32;
                    let run = entries(next, count);
                    if random.below(2) == 0 {
                        items.push_entries(&run, count as usize);
                    } else {
                        let taken = items.push_run(|bytes| {
                            bytes.extend_from_slice(&run);
                            Ok(count as usize)
                        });
                        assert_eq!(taken, Ok(count as usize));
                    }
                    next += count;
                }
                4 => {
                    let (max, room) = (random.below(30) as usize, random.below(600) as usize);
                    if let Some((run, count)) = items.front_run(max, room) {
                        assert!(count <= max && run.len() <= room);
                        assert_eq!(run, entries(first, count as u32));
                        let bytes = run.len();
                        items.skip_run(bytes, count);
                        first += count as u32;
                    }
                }
                5 => {
                    let index = random.below(50).min(items.len() as u64);
                    let bytes = items.offset(index as usize);
                    assert_eq!(bytes, entries(first, index as u32).len());
                    items.skip(bytes).unwrap();
                    first += index as u32;
                }
                6 => assert_eq!(
                    items.push_run(|bytes| {
                        bytes.push(1);
                        Err(Corrupt)
                    }),
                    Err(Corrupt)
                ),
                _ => match items.pop_front() {
                    Some(item) => {
                        assert_eq!(number(&item), first);
                        first += 1;
                    }
                    None => assert_eq!(first, next),
                },
            }
            assert_eq!((items.len(), items.is_empty()), ((next - first) as usize, first == next));
        }
    }

    #[test]
    fn bytes_that_end_inside_of_an_item_are_corrupt() {
        let mut items = RunQueue::default();
        items.push_back(item(1, 0));
        items.push_back(item(2, 1));
        assert_eq!(items.skip(8), Err(Corrupt));
        items.skip(items.offset(1)).unwrap();
        assert_eq!(items.skip(8), Err(Corrupt));
        items.skip(items.offset(1)).unwrap();
        assert_eq!(items.skip(8), Err(Corrupt));
    }
}
