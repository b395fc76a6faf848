//! The library's doorbell and ring, on the explorer's memory. Stands in for its `ipc` module.

#[path = "../../src/ipc/doorbell.rs"]
pub(crate) mod doorbell;
#[path = "../../src/ipc/fuzz.rs"]
pub(crate) mod fuzz;
#[path = "../../src/ipc/ring.rs"]
pub(crate) mod ring;
#[path = "../../src/ipc/small_bytes.rs"]
pub(crate) mod small_bytes;
pub(crate) mod region {
    pub(crate) use crate::memory::{AtomicU64, Region, fence};
}
