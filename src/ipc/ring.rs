//! The byte ring in shared memory: one producer, one consumer, and entries that exist whole or not
//! at all.
//!
//! ```text
//!   words (each alone on its cache line)         data, a power of two of bytes
//!   tail: written by the producer                entry = header (4 bytes) + payload, padded to 8
//!   head: written by the consumer                header = length u16, tag u16
//! ```
//!
//! `tail` and `head` count bytes since the start. The producer writes an entry after `tail`, then
//! moves `tail` with one store (release). If it dies before the store, it has put nothing; if it
//! dies after it, it has put the whole entry. The consumer copies the entry out, then moves `head`
//! with one compare-and-swap. What `head` has passed is taken, and everything else is not,
//! whichever side dies.
//!
//! A producer takes entries back ([`RingProducer::recall`]) by one swap of `head` for `tail`: the
//! old value shows how far the consumer has come, and the entries after that belong to the producer
//! again. A consumer that was copying an entry then finds that `head` has moved, and drops the
//! copy. No position is ever used twice, however often entries are recalled. So a consumer that was
//! suspended between the copy and the compare-and-swap cannot mistake a new entry for the one that
//! it copied.
//!
//! Neither side trusts a word that the other writes: positions and lengths are checked at each use,
//! and a violation is [`Corrupt`]. The producer writes at its own `tail` only, which no word of the
//! consumer changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::failpoints;
use crate::ipc::region::{AtomicU64, Region};
use crate::ipc::small_bytes::{self, SmallBytes};

/// The number of bytes of data in one ring.
pub(crate) const CAPACITY: usize = 128 << 10;
/// The longest payload of one entry. Several such entries fit, so no entry ever waits for an empty
/// ring.
pub(crate) const ENTRY_MAX: usize = CAPACITY / 4;
/// The most entries that fit in one ring.
pub(crate) const ENTRIES_MAX: usize = CAPACITY / WORD as usize;
/// The number of bytes of a region that one ring takes.
pub(crate) const RING_BYTES: usize = DATA + CAPACITY;

const LINE: usize = 128;
const TAIL: usize = 0;
const HEAD: usize = LINE;
const DATA: usize = 2 * LINE;

/// Entries begin at word boundaries, so a small entry is a single word. What travels between two
/// processors is cache lines, and the fewer the better.
const WORD: u64 = 8;
/// The size of an entry's header. The other half of the first word holds the first bytes of the
/// payload.
const HEADER: usize = 4;
/// How many bytes [`RingConsumer::take_run`] copies at once: the first time, and at most.
const PIECE_MIN: usize = 512;
const PIECE_MAX: usize = 8 << 10;
/// How many recalls may come between the steps of one [`RingConsumer::front`]. Recalls are
/// milliseconds apart, so if `head` does not settle, the producer that moves it is not a correct
/// one.
const RECALLS_MAX: usize = 1000;

/// The other side wrote something that no correct peer writes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Returns the position `bytes` after another.
#[inline]
pub(crate) fn advance(position: u64, bytes: usize) -> u64 {
    position.wrapping_add(bytes as u64)
}

/// Returns how many bytes of the ring an entry takes.
#[inline]
pub(crate) fn entry_size(payload: usize) -> u64 {
    ((HEADER + payload) as u64).next_multiple_of(WORD)
}

/// The words and data of a ring in its region.
#[derive(Clone, Debug)]
struct RingMemory {
    region: Arc<Region>,
    offset: usize,
}

impl RingMemory {
    fn new(region: Arc<Region>, offset: usize) -> RingMemory {
        assert!(
            offset % LINE == 0 && offset + RING_BYTES <= region.len(),
            "a ring outside of its region"
        );
        RingMemory { region, offset }
    }

    #[inline]
    fn tail(&self) -> &AtomicU64 {
        self.region.atomic(self.offset + TAIL)
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        self.region.atomic(self.offset + HEAD)
    }

    /// Returns a word of the data. Entries start at word boundaries and are padded to whole words,
    /// so none crosses the end.
    #[inline]
    fn word(&self, position: u64) -> &AtomicU64 {
        self.region.atomic(self.offset + DATA + position as usize % CAPACITY)
    }

    /// Returns a word of the data, with its first byte lowest.
    #[inline]
    fn load(&self, position: u64) -> u64 {
        u64::from_le(self.word(position).load(Ordering::Relaxed))
    }

    #[inline]
    fn store(&self, position: u64, word: u64) {
        self.word(position).store(word.to_le(), Ordering::Relaxed);
    }

    #[inline]
    fn write(&self, position: u64, tag: u32, payload: &[u8]) {
        let (first, rest) = payload.split_at(payload.len().min(HEADER));
        self.store(position, header(tag, payload.len()) | small_bytes::word(first) << 32);
        if payload.len() > small_bytes::INLINE {
            return self.write_words(position + WORD, rest);
        }
        for (index, chunk) in rest.chunks(8).enumerate() {
            self.store(position + WORD + index as u64 * WORD, small_bytes::word(chunk));
        }
    }

    /// Returns a copy of the payload of an entry.
    #[inline]
    fn read(&self, position: u64, length: usize) -> SmallBytes {
        if length > small_bytes::INLINE {
            return SmallBytes::Heap(self.read_long(position, length));
        }
        SmallBytes::from_words(length, |index| {
            let (at, begun) = (position + index as u64 * WORD, index * 8 + HEADER);
            let high = if begun < length { self.load(at + WORD) << 32 } else { 0 };
            self.load(at) >> 32 | high
        })
    }

    fn write_words(&self, position: u64, bytes: &[u8]) {
        let start = position as usize % CAPACITY;
        let first = bytes.len().min(CAPACITY - start);
        self.region.write(self.offset + DATA + start, &bytes[..first]);
        self.region.write(self.offset + DATA, &bytes[first..]);
    }

    fn read_long(&self, position: u64, length: usize) -> Box<[u8]> {
        let mut bytes = vec![0; length].into_boxed_slice();
        let (first, rest) = bytes.split_at_mut(HEADER);
        first.copy_from_slice(&self.load(position).to_le_bytes()[HEADER..]);
        self.read_into(position + WORD, rest);
        bytes
    }

    fn read_into(&self, position: u64, bytes: &mut [u8]) {
        let start = position as usize % CAPACITY;
        let middle = bytes.len().min(CAPACITY - start);
        let (front, back) = bytes.split_at_mut(middle);
        self.region.read(self.offset + DATA + start, front);
        self.region.read(self.offset + DATA, back);
    }
}

/// Returns the distance from one position to a later one.
#[inline]
pub(crate) fn distance(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from)
}

/// Returns whether `position` is `mark` or comes after it. The two must not be far apart.
#[inline]
pub(crate) fn is_at_or_behind(position: u64, mark: u64) -> bool {
    distance(mark, position) <= u64::MAX / 2
}

/// The writing side.
#[derive(Debug)]
pub(crate) struct RingProducer {
    memory: RingMemory,
    tail: u64,
    /// `head` as last read. It only moves forward, so an old value is safe.
    seen: u64,
}

impl RingProducer {
    pub(crate) fn new(region: Arc<Region>, offset: usize) -> RingProducer {
        RingProducer { memory: RingMemory::new(region, offset), tail: 0, seen: 0 }
    }

    #[inline]
    fn room(&self) -> u64 {
        CAPACITY as u64 - distance(self.seen, self.tail)
    }

    /// Writes one entry. Returns `Ok(false)` if there is no room for it now.
    #[inline]
    pub(crate) fn push(&mut self, tag: u32, payload: &[u8]) -> Result<bool, Corrupt> {
        let written = self.write(tag, payload)?;
        if written {
            self.publish();
        }
        Ok(written)
    }

    /// Writes one entry, which the consumer does not see until [`publish`](Self::publish). Returns
    /// `Ok(false)` if there is no room for it now.
    #[inline]
    pub(crate) fn write(&mut self, tag: u32, payload: &[u8]) -> Result<bool, Corrupt> {
        assert!(
            payload.len() <= ENTRY_MAX && tag <= TAG_MAX,
            "an entry of {} bytes with the tag {tag}",
            payload.len()
        );
        #[cfg(test)]
        let tampered = crate::ipc::fuzz::tampered_entry(tag, payload);
        #[cfg(test)]
        let (tag, payload) =
            tampered.as_ref().map_or((tag, payload), |(tag, payload)| (*tag, &**payload));
        let size = entry_size(payload.len());
        // The consumer's cache line is fetched only when the last known room is used up.
        if self.room() < size && !self.has_room(payload.len())? {
            return Ok(false);
        }
        let next = self.tail.wrapping_add(size);
        if failpoints::is_mutated("ring.commit-first") {
            self.memory.tail().store(next, Ordering::SeqCst);
            failpoints::point("ring.written");
        }
        // This is beyond the published `tail`, so the consumer does not read these bytes yet. If
        // this process dies here, they are garbage that the ring does not hold.
        self.memory.write(self.tail, tag, payload);
        failpoints::point("ring.written");
        self.tail = next;
        Ok(true)
    }

    /// Makes all written entries visible. The store is sequentially consistent. If the other side's
    /// sleep flag is clear afterwards, the caller need not ring, because the other side checks here
    /// again after it sets the flag.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.memory.tail().store(self.tail, Ordering::SeqCst);
    }

    /// Writes whole entries, for which there must be [room](Self::room_for). The consumer does not
    /// see them until [`publish`](Self::publish).
    pub(crate) fn write_entries(&mut self, entries: &[u8]) {
        assert!(entries.len() as u64 <= self.room(), "entries without room");
        self.memory.write_words(self.tail, entries);
        failpoints::point("ring.written");
        self.tail = advance(self.tail, entries.len());
    }

    /// Returns how many bytes there is room for. Fetches the consumer's cache line only if the last
    /// known room is less than `wanted`.
    #[inline]
    pub(crate) fn room_for(&mut self, wanted: usize) -> Result<usize, Corrupt> {
        if self.room() < wanted as u64 {
            self.look()?;
        }
        Ok(self.room() as usize)
    }

    /// Returns whether an entry of this length fits now.
    pub(crate) fn has_room(&mut self, payload: usize) -> Result<bool, Corrupt> {
        self.look()?;
        Ok(self.room() >= entry_size(payload))
    }

    /// Returns whether the consumer has entries to take. Reads the consumer's position only if
    /// there were some when it was last read.
    pub(crate) fn is_backed_up(&mut self) -> Result<bool, Corrupt> {
        if self.seen == self.tail {
            return Ok(false);
        }
        self.look()?;
        Ok(self.seen != self.tail)
    }

    /// Returns the position of the next entry.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.tail
    }

    /// Returns the position of the consumer, as last read.
    pub(crate) fn taken_to(&self) -> u64 {
        self.seen
    }

    /// Reads the position of the consumer, for [`is_taken`](Self::is_taken).
    pub(crate) fn look(&mut self) -> Result<(), Corrupt> {
        self.note_head(self.memory.head().load(Ordering::SeqCst))
    }

    fn note_head(&mut self, head: u64) -> Result<(), Corrupt> {
        // The head only moves from where it was last seen towards the tail, by whole words. Any
        // other value would report room that entries still occupy.
        if distance(head, self.tail) > distance(self.seen, self.tail) || head % WORD != 0 {
            return Err(Corrupt);
        }
        self.seen = head;
        Ok(())
    }

    /// Returns whether the entry at `position` was taken when the consumer's position was last
    /// read.
    pub(crate) fn is_taken(&self, position: u64) -> bool {
        distance(position, self.tail) > distance(self.seen, self.tail)
    }

    /// Takes back all entries that the consumer has not taken, which leaves the ring empty. Returns
    /// the position up to which the consumer has taken entries; those after it belong to the
    /// producer again.
    pub(crate) fn recall(&mut self) -> Result<u64, Corrupt> {
        // Entries that were written and not published are recalled too, and the head must not move
        // beyond the tail that the consumer reads.
        self.publish();
        // One swap, which no consumer can make fail. Before it, the consumer may take an entry.
        // After it, a take fails, whatever was copied.
        let head = self.memory.head().swap(self.tail, Ordering::SeqCst);
        failpoints::point("ring.recalled");
        let before = self.seen;
        self.note_head(head)?;
        self.seen = self.tail;
        Ok(if failpoints::is_mutated("ring.recall-unseen") { before } else { head })
    }
}

/// The entry at the front, as the consumer found it. It is not taken yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peeked {
    pub(crate) tag: u32,
    length: usize,
    /// Its position, which was `head` at that time. No two entries ever have the same position.
    pub(crate) position: u64,
}

impl Peeked {
    fn next(&self) -> u64 {
        self.position.wrapping_add(entry_size(self.length))
    }
}

/// The reading side.
#[derive(Debug)]
pub(crate) struct RingConsumer {
    memory: RingMemory,
    /// `tail` as last read. It is valid until `head` reaches it, or a recall moves `head` beyond
    /// it. So the consumer does not fetch the cache line of a busy producer for each entry.
    seen: u64,
}

impl RingConsumer {
    pub(crate) fn new(region: Arc<Region>, offset: usize) -> RingConsumer {
        RingConsumer { memory: RingMemory::new(region, offset), seen: 0 }
    }

    /// Returns the entry at the front.
    #[inline]
    pub(crate) fn front(&mut self) -> Result<Option<Peeked>, Corrupt> {
        for _ in 0..RECALLS_MAX {
            // Read the head first, because a tail that is newer than the head is harmless. If the
            // tail were older, a recall in between would move the head beyond it.
            let head = self.memory.head().load(Ordering::Acquire);
            let mut available = distance(head, self.seen);
            if available == 0 || available > CAPACITY as u64 {
                self.seen = self.memory.tail().load(Ordering::SeqCst);
                available = distance(head, self.seen);
            }
            if available == 0 {
                return Ok(None);
            }
            // A hostile producer can violate each of these conditions, and a recall between the
            // loads can violate the last two.
            if head % WORD == 0 && available <= CAPACITY as u64 && available >= WORD {
                let (tag, length) = split_header(self.memory.load(head));
                if length <= ENTRY_MAX && entry_size(length) <= available {
                    return Ok(Some(Peeked { tag, length, position: head }));
                }
            }
            // The head did not move, so this was not a recall.
            if self.memory.head().load(Ordering::Acquire) == head {
                return Err(Corrupt);
            }
        }
        Err(Corrupt)
    }

    /// Returns a copy of its payload. The copy may be torn unless [`take`](Self::take) takes the
    /// entry afterwards.
    #[inline]
    pub(crate) fn read(&self, front: &Peeked) -> SmallBytes {
        self.memory.read(front.position, front.length)
    }

    /// Takes the entry. Returns `false` if it was recalled in the meantime.
    #[inline]
    pub(crate) fn take(&mut self, front: &Peeked) -> bool {
        failpoints::point("ring.copied");
        // A recall since `front` has moved the head, which makes this fail. Sequentially
        // consistent, because the producer may be waiting for room.
        let (head, next) = (self.memory.head(), front.next());
        head.compare_exchange(front.position, next, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Like [`take`](Self::take), for a ring whose producer never recalls.
    #[inline]
    pub(crate) fn take_sole(&mut self, front: &Peeked) {
        self.memory.head().store(front.next(), Ordering::Release);
    }

    /// Takes the next entry: its tag and payload.
    #[cfg(test)]
    pub(crate) fn pop(&mut self) -> Result<Option<(u32, SmallBytes)>, Corrupt> {
        while let Some(front) = self.front()? {
            let payload = self.read(&front);
            if self.take(&front) {
                return Ok(Some((front.tag, payload)));
            }
        }
        Ok(None)
    }

    /// Takes up to `most` entries with this tag from the front, and appends them to `bytes`.
    /// Returns how many it took.
    ///
    /// Appends whole entries only. Only for a ring whose producer never recalls.
    pub(crate) fn take_run(
        &mut self,
        tag: u32,
        most: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<usize, Corrupt> {
        let (head, tail) = self.span()?;
        let available = distance(head, tail) as usize;
        // Needed by `front`, whose value may be older than what is taken here.
        self.seen = tail;
        if available == 0 || split_header(self.memory.load(head)).0 != tag {
            return Ok(0);
        }
        // First copied and then looked at, because the producer may change what is in the ring. Looking
        // through entries in the ring itself would also wait for one cache line after the other. The
        // pieces grow, so that little is copied in vain if the run is short.
        let start = bytes.len();
        let (mut end, mut count) = (0, 0);
        let (mut piece, mut last) = (PIECE_MIN, PIECE_MIN);
        let outcome = loop {
            let rest = &bytes[start + end..];
            let wanted = match rest.first_chunk() {
                _ if count == most => break Ok(count),
                None => WORD as usize,
                Some(word) => {
                    let (found, length) = split_header(u64::from_le_bytes(*word));
                    let size = entry_size(length) as usize;
                    if length > ENTRY_MAX || size > available - end {
                        break Err(Corrupt);
                    }
                    if found != tag {
                        break Ok(count);
                    }
                    if size <= rest.len() {
                        (end, count, last) = (end + size, count + 1, size);
                        continue;
                    }
                    size - rest.len()
                }
            };
            let copied = end + rest.len();
            if copied == available {
                break if rest.is_empty() { Ok(count) } else { Err(Corrupt) };
            }
            let likely = (most - count).saturating_mul(last);
            let more = piece.min(likely).max(wanted).min(available - copied);
            piece = (piece * 2).min(PIECE_MAX);
            bytes.resize(start + copied + more, 0);
            self.memory.read_into(advance(head, copied), &mut bytes[start + copied..]);
        };
        bytes.truncate(start + end);
        if outcome != Err(Corrupt) && count > 0 {
            // Sequentially consistent, like `publish`: the producer may be waiting for room.
            self.memory.head().store(advance(head, end), Ordering::SeqCst);
        }
        outcome
    }

    /// Takes all entries, for [`entries`]. Only for a ring whose producer never recalls.
    pub(crate) fn take_all(&mut self, bytes: &mut Vec<u8>) -> Result<(), Corrupt> {
        let (head, tail) = self.span()?;
        bytes.resize(distance(head, tail) as usize, 0);
        self.memory.read_into(head, bytes);
        // Sequentially consistent, like `publish`: the producer may be waiting for room.
        self.memory.head().store(tail, Ordering::SeqCst);
        Ok(())
    }

    /// Returns where the entries start and end, for a ring whose producer never recalls.
    fn span(&self) -> Result<(u64, u64), Corrupt> {
        let head = self.memory.head().load(Ordering::Acquire);
        let tail = self.memory.tail().load(Ordering::Acquire);
        if head % WORD == 0 && distance(head, tail) <= CAPACITY as u64 {
            Ok((head, tail))
        } else {
            Err(Corrupt)
        }
    }

    /// Returns how many bytes of entries there are.
    pub(crate) fn waiting(&self) -> u64 {
        let head = self.memory.head().load(Ordering::Acquire);
        distance(head, self.memory.tail().load(Ordering::Acquire))
    }

    pub(crate) fn is_empty(&self) -> bool {
        let head = self.memory.head().load(Ordering::Acquire);
        self.memory.tail().load(Ordering::Acquire) == head
    }

    /// Returns the position after the last entry.
    #[cfg(feature = "tracing")]
    pub(crate) fn written_to(&self) -> u64 {
        self.memory.tail().load(Ordering::Acquire)
    }

    /// Returns whether all entries before this position were taken.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_taken_to(&self, position: u64) -> bool {
        is_at_or_behind(self.memory.head().load(Ordering::Acquire), position)
    }
}

/// Returns the payload of the first of these entries, which must be whole.
#[inline]
pub(crate) fn payload_at(entries: &[u8]) -> &[u8] {
    let (_, payload, _) = split_entry(entries).expect("whole entries");
    payload
}

/// Appends an entry to others.
pub(crate) fn write_entry(entries: &mut Vec<u8>, tag: u32, payload: &[u8]) {
    entries.extend_from_slice(&header(tag, payload.len()).to_le_bytes()[..HEADER]);
    entries.extend_from_slice(payload);
    entries.resize(entries.len().next_multiple_of(8), 0);
}

/// Returns the tags and payloads of copied entries.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<(u32, &[u8]), Corrupt>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = split_entry(rest);
        rest = entry.map_or(&[][..], |(_, _, rest)| rest);
        Some(entry.map(|(tag, payload, _)| (tag, payload)).ok_or(Corrupt))
    })
}

const TAG_MAX: u32 = u16::MAX as u32;
const _: () = assert!(ENTRY_MAX <= u16::MAX as usize);

/// Returns the lower half of the first word of an entry.
#[inline]
fn header(tag: u32, length: usize) -> u64 {
    u64::from(tag) << 16 | length as u64
}

/// Tag and length.
#[inline]
fn split_header(word: u64) -> (u32, usize) {
    ((word >> 16) as u32 & TAG_MAX, word as usize & usize::from(u16::MAX))
}

#[inline]
fn split_entry(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (tag, length) = split_header(u64::from_le_bytes(*bytes.first_chunk()?));
    let size = entry_size(length) as usize;
    (length <= ENTRY_MAX && size <= bytes.len())
        .then(|| (tag, &bytes[HEADER..HEADER + length], &bytes[size..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::fuzz::{Random, rounds};

    /// Takes the next entry: its tag and payload.
    fn pop(consumer: &mut RingConsumer) -> Option<(u32, Vec<u8>)> {
        let popped = consumer.pop().unwrap();
        popped.map(|(tag, payload)| (tag, payload.as_slice().to_vec()))
    }

    fn ring() -> (Arc<Region>, RingProducer, RingConsumer) {
        let region = Arc::new(Region::new(RING_BYTES).unwrap());
        (region.clone(), RingProducer::new(region.clone(), 0), RingConsumer::new(region, 0))
    }

    #[test]
    fn entries_come_in_order_around_the_end() {
        let (_region, mut producer, mut consumer) = ring();
        let (mut sent, mut got) = (0u32, 0u32);
        while got < rounds(20_000) {
            let entry = vec![sent as u8; (sent as usize * 37) % 3000];
            if producer.push(sent, &entry).unwrap() {
                sent += 1;
                continue;
            }
            while let Some(entry) = pop(&mut consumer) {
                assert_eq!(entry, (got, vec![got as u8; (got as usize * 37) % 3000]));
                got += 1;
            }
        }
    }

    #[test]
    fn all_that_is_there_is_taken_at_once() {
        let (region, mut producer, mut consumer) = ring();
        let mut bytes = Vec::new();
        let mut next = 0u32;
        for round in 0..rounds(2_000) {
            let count = round % 50;
            for n in 0..count {
                assert!(producer.push(next + n, &vec![n as u8; (n as usize * 97) % 2000]).unwrap());
            }
            consumer.take_all(&mut bytes).unwrap();
            let tags: Vec<u32> = entries(&bytes).map(|entry| entry.unwrap().0).collect();
            assert_eq!(tags, (next..next + count).collect::<Vec<_>>());
            assert!(entries(&bytes).all(|entry| entry.unwrap().1.iter().all(|&byte| byte < 50)));
            next += count;
            assert_eq!(consumer.waiting(), 0);
        }
        assert!(producer.push(1, b"entry").unwrap());
        consumer.take_all(&mut bytes).unwrap();
        bytes[0] = 200;
        assert!(entries(&bytes).any(|entry| entry.is_err()));
        region.atomic(TAIL).store(u64::MAX, Ordering::Relaxed);
        assert_eq!(consumer.take_all(&mut bytes), Err(Corrupt));
    }

    #[test]
    fn entries_of_one_kind_go_from_ring_to_ring_as_they_are() {
        let (_first, mut producer, mut between) = ring();
        let (_second, mut onward, mut consumer) = ring();
        let mut random = Random::new();
        let (mut sent, mut got) = (0u32, 0u32);
        let payload = |n: u32| vec![n as u8; (n as usize * 37) % 300];
        let tag = |n: u32| if n % 17 == 0 { 2 } else { 1 };
        let mut bytes = Vec::new();
        while got < rounds(20_000) {
            for _ in 0..random.below(100) {
                sent += u32::from(producer.push(tag(sent), &payload(sent)).unwrap());
            }
            let most = random.below(50) as usize;
            bytes.clear();
            let count = between.take_run(1, most, &mut bytes).unwrap();
            assert!(count <= most);
            assert_eq!(entries(&bytes).filter(Result::is_ok).count(), count);
            if onward.room_for(bytes.len()).unwrap() >= bytes.len() {
                onward.write_entries(&bytes);
                onward.publish();
            } else {
                panic!("the consumer below takes all");
            }
            if count < most {
                // The next entry is of the other kind.
                if let Some((found, bytes)) = between.pop().unwrap() {
                    assert_eq!(found, 2);
                    assert!(onward.push(found, bytes.as_slice()).unwrap());
                }
            }
            while let Some(entry) = pop(&mut consumer) {
                assert_eq!(entry, (tag(got), payload(got)));
                got += 1;
            }
        }
    }

    #[test]
    fn positions_wrap() {
        let (region, mut producer, mut consumer) = ring();
        let start = 0u64.wrapping_sub(1016);
        region.atomic(TAIL).store(start, Ordering::Relaxed);
        region.atomic(HEAD).store(start, Ordering::Relaxed);
        (producer.tail, producer.seen, consumer.seen) = (start, start, start);
        for n in 0..5000u32 {
            let at = producer.position();
            assert!(producer.push(n, &[n as u8; 100]).unwrap());
            assert!(!producer.is_taken(at));
            assert_eq!(pop(&mut consumer), Some((n, vec![n as u8; 100])));
            producer.look().unwrap();
            assert!(producer.is_taken(at));
        }
    }

    #[test]
    fn a_recall_gives_back_exactly_what_was_not_taken() {
        let (_region, mut producer, mut consumer) = ring();
        let places: Vec<u64> = (0..10)
            .map(|n| {
                let at = producer.position();
                assert!(producer.push(n, b"entry").unwrap());
                at
            })
            .collect();
        for _ in 0..3 {
            pop(&mut consumer);
        }
        assert_eq!(producer.recall(), Ok(places[3]));
        assert_eq!(pop(&mut consumer), None);
        assert!(producer.push(77, b"new").unwrap());
        assert_eq!(pop(&mut consumer), Some((77, b"new".to_vec())));
    }

    #[test]
    fn a_recall_races_with_a_consumer_and_nothing_is_taken_twice() {
        let (_region, mut producer, mut consumer) = ring();
        let total = rounds(200_000);
        let taken = std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut seen = Vec::new();
                while seen.last() != Some(&total) {
                    if let Some((tag, payload)) = pop(&mut consumer) {
                        let number = u32::from_le_bytes(payload.try_into().unwrap());
                        assert_eq!(tag, number % 1000);
                        seen.push(number);
                    }
                }
                seen
            });
            let mut pending = std::collections::VecDeque::new();
            let mut next = 1;
            let mut backlog: std::collections::VecDeque<u32> = (1..=total).collect();
            while !(backlog.is_empty() && pending.is_empty()) {
                producer.look().unwrap();
                while pending.front().is_some_and(|&(at, _)| producer.is_taken(at)) {
                    pending.pop_front();
                }
                if let Some(&number) = backlog.front() {
                    let at = producer.position();
                    if producer.push(number % 1000, &number.to_le_bytes()).unwrap() {
                        backlog.pop_front();
                        pending.push_back((at, number));
                    }
                }
                next += 1;
                if next % 7 == 0 && backlog.len() > 1 {
                    let taken_to = producer.recall().unwrap();
                    while let Some((at, number)) = pending.pop_back() {
                        if !is_at_or_behind(at, taken_to) {
                            break;
                        }
                        backlog.push_front(number);
                    }
                    pending.clear();
                }
            }
            reader.join().unwrap()
        });
        assert_eq!(taken, (1..=total).collect::<Vec<_>>());
    }

    #[test]
    fn hostile_words_are_corrupt_and_nothing_worse() {
        let mut random = Random::new();
        let mut random = || random.below(u64::MAX);
        for _ in 0..rounds(2000) {
            let (region, mut producer, mut consumer) = ring();
            for n in 0..5 {
                producer.push(n.max(2), &[0xff; 50]).unwrap();
            }
            let word = [TAIL, HEAD, DATA, DATA + 64][(random() % 4) as usize];
            let value = if random() % 2 == 0 { random() } else { random() % 4096 };
            region.atomic(word).store(value, Ordering::Relaxed);
            let mut run = Vec::new();
            if let (true, Ok(count)) = (random() % 2 == 0, consumer.take_run(2, 10, &mut run)) {
                assert_eq!(
                    entries(&run).map_while(Result::ok).filter(|&(tag, _)| tag == 2).count(),
                    count
                );
            }
            for _ in 0..100 {
                let Ok(Some((_, payload))) = consumer.pop() else {
                    break;
                };
                assert!(payload.as_slice().len() <= ENTRY_MAX);
            }
            let _ = producer.look();
            let _ = producer.push(1, b"x");
            let _ = producer.recall();
        }
    }

    #[test]
    fn a_head_between_two_entries_or_two_words_is_no_panic_of_the_producer() {
        for head in (0..=5 * 56).chain([u64::MAX, 1 << 48 | 1, 3 << 48]) {
            let (region, mut producer, _consumer) = ring();
            for n in 0..5 {
                producer.push(n, &[1; 50]).unwrap();
            }
            region.atomic(HEAD).store(head, Ordering::Relaxed);
            if producer.recall().is_ok() {
                assert!(producer.push(1, &[1; 50]).unwrap());
            }
        }
    }
}
