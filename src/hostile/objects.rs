//! What the victim and a hostile worker send to each other, and share.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ipc::fuzz::Random;
use crate::shared::SharedBytes;
use crate::sync::{Barrier, Condvar, Event, Mutex, RwLock, Semaphore};

/// How long the victim waits in one call. A hostile worker makes it wait that long each time.
pub(super) const PATIENT: Duration = Duration::from_millis(4);

/// Something to send: short or long, with a handle or without.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) bytes: Vec<u8>,
    pub(super) handle: Option<Mutex<u64>>,
    pub(super) memory: Option<SharedBytes>,
}

impl Item {
    pub(super) fn any(random: &mut Random) -> Item {
        let most = *random.choose(&[10, 10, 300, 50_000]);
        // The system may have no descriptor left for it.
        let handle = if random.one_in(4) { Mutex::new(7).ok() } else { None };
        let memory = if random.one_in(8) { SharedBytes::copy_from(&[3; 100]).ok() } else { None };
        Item { bytes: random.bytes(most), handle, memory }
    }

    pub(super) fn touch(&self) {
        if let Some(handle) = &self.handle {
            let _ = handle.lock_timeout(PATIENT).map(|guard| *guard);
        }
        if let Some(memory) = &self.memory {
            assert!(memory.len() < 1 << 30);
            let _ = memory.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AllLocks {
    pub(super) mutex: Mutex<u64>,
    pub(super) text: Mutex<String, crate::sync::Encoded>,
    pub(super) rwlock: RwLock<[u64]>,
    pub(super) semaphore: Semaphore,
    pub(super) condvar: Condvar,
    pub(super) barrier: Barrier,
    pub(super) event: Event,
}

impl AllLocks {
    pub(super) fn new() -> AllLocks {
        AllLocks {
            mutex: Mutex::new(1).unwrap(),
            text: Mutex::encoded("text".to_owned()).unwrap(),
            rwlock: RwLock::from_slice(&[1, 2, 3]).unwrap(),
            semaphore: Semaphore::new(3).unwrap(),
            condvar: Condvar::new().unwrap(),
            barrier: Barrier::new(2).unwrap(),
            event: Event::new().unwrap(),
        }
    }

    pub(super) fn use_one(&self, random: &mut Random) {
        match random.below(10) {
            0 | 1 => drop(self.mutex.lock_timeout(PATIENT).map(|mut guard| *guard += 1)),
            2 => drop(self.text.lock_timeout(PATIENT).map(|mut text| text.push('x'))),
            3 => drop(self.rwlock.read_timeout(PATIENT).map(|numbers| numbers[1])),
            4 => drop(self.rwlock.write_timeout(PATIENT).map(|mut numbers| numbers[2] += 1)),
            5 => drop(self.semaphore.acquire_timeout(PATIENT)),
            6 => {
                if let Ok(guard) = self.mutex.lock_timeout(PATIENT) {
                    let _ = self.condvar.wait_timeout(guard, PATIENT);
                }
            }
            7 => drop(self.condvar.notify_all()),
            8 => drop(self.barrier.wait_timeout(PATIENT)),
            _ => match random.below(3) {
                0 => self.event.set(),
                1 => self.event.clear(),
                _ => drop(self.event.wait_timeout(PATIENT)),
            },
        }
    }
}
