//! Shared memory of the explorer: what `region` offers to the ring, with a step at each access.

use std::sync::atomic::{AtomicU64 as Cell, Ordering};

use crate::explore;

/// Stands in for the atomic of the same name.
#[repr(transparent)]
pub(crate) struct AtomicU64(Cell);

impl AtomicU64 {
    fn address(&self) -> usize {
        std::ptr::from_ref(&self.0) as usize
    }

    pub(crate) fn load(&self, _: Ordering) -> u64 {
        explore::load(&[self.address()])[0]
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        explore::store(vec![(self.address(), value)], order);
    }

    pub(crate) fn swap(&self, value: u64, _: Ordering) -> u64 {
        explore::locked(&[self.address()], || self.0.swap(value, Ordering::SeqCst))
    }

    pub(crate) fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        _: Ordering,
        _: Ordering,
    ) -> Result<u64, u64> {
        explore::locked(&[self.address()], || {
            self.0.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
        })
    }
}

#[allow(dead_code)]
pub(crate) fn fence(_: Ordering) {
    explore::locked(&[], || ());
}

pub(crate) struct Region(Vec<AtomicU64>);

impl Region {
    pub(crate) fn new(length: usize) -> Result<Region, std::convert::Infallible> {
        Ok(Region((0..length.div_ceil(8)).map(|_| AtomicU64(Cell::new(0))).collect()))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len() * 8
    }

    pub(crate) fn atomic(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0);
        &self.0[offset / 8]
    }

    fn words(&self, offset: usize, length: usize) -> &[AtomicU64] {
        assert!(offset % 8 == 0);
        &self.0[offset / 8..(offset + length).div_ceil(8)]
    }

    /// A copy takes time: other threads run in the middle of it.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        let words = self.words(offset, bytes.len());
        let (front, back) = words.split_at(words.len() / 2);
        let mut values = Vec::new();
        for half in [front, back].into_iter().filter(|half| !half.is_empty()) {
            values.extend(explore::load(&half.iter().map(AtomicU64::address).collect::<Vec<_>>()));
        }
        let copy: Vec<u8> = values.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.copy_from_slice(&copy[..bytes.len()]);
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let mut values = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let words = self.words(offset, bytes.len());
        let (front, back) = words.split_at(words.len() / 2);
        for half in [front, back].into_iter().filter(|half| !half.is_empty()) {
            let stores = half.iter().map(AtomicU64::address).zip(values.by_ref()).collect();
            explore::store(stores, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").finish_non_exhaustive()
    }
}
