//! Memory that processes share without copying.
//!
//! [`SharedSlice`] holds numbers (or other plain data) that every process may read and write.
//! [`SharedBytes`] holds bytes that are written once and then only read. The atomics ([`AtomicU64`]
//! and its siblings) hold one number each. Handles travel in worker fields, items and messages.
//! Only the handle is sent, whatever the size of the memory.
//!
//! There are no names in a file system. The memory is freed with its last handle, even if processes
//! are killed, and it does not depend on the process that made it. All of it is allocated when it
//! is created. If the system does not have that much memory, the constructor returns an error;
//! access never raises SIGBUS later.
//!
//! No call here blocks. Put data that must change as a whole into a
//! [`sync::Mutex`](crate::sync::Mutex) or [`sync::RwLock`](crate::sync::RwLock): they store their
//! value in shared memory as well, and their guards return `&mut` to it.
//!
//! ```
//! use offspring::shared::SharedSlice;
//!
//! #[offspring::worker]
//! fn square(numbers: SharedSlice<f64>, from: usize, to: usize) {
//!     for n in from..to {
//!         numbers.set(n, (n * n) as f64);
//!     }
//! }
//!
//! #[offspring::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let numbers = SharedSlice::zeroed(100)?;
//!     let one = square::spawn(numbers.clone(), 0, 50)?;
//!     let two = square::spawn(numbers.clone(), 50, 100)?;
//!     one.join()?;
//!     two.join()?;
//!     assert_eq!(numbers.get(7), Some(49.0));
//!     assert_eq!(numbers.get(99), Some(9801.0));
//!     Ok(())
//! }
//! ```

mod atomics;
mod bytes;
mod memory;
mod slice;

pub use atomics::{
    AtomicBool, AtomicI32, AtomicI64, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize,
};
/// Plain data: every bit pattern is a valid value, and there is no padding. To implement it for a
/// `#[repr(C)]` struct, write `#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]` (with
/// `bytemuck` and its `derive` feature in `Cargo.toml`).
///
/// ```
/// use offspring::sync::Mutex;
///
/// #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// #[offspring::worker]
/// fn mirror(point: Mutex<Point>) {
///     let mut point = point.lock().unwrap();
///     *point = Point { x: point.y, y: point.x };
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let point = Mutex::new(Point { x: 1.0, y: 2.0 })?;
///     mirror::spawn(point.clone())?.join()?;
///     assert_eq!(*point.lock().unwrap(), Point { x: 2.0, y: 1.0 });
///     Ok(())
/// }
/// ```
pub use bytemuck::Pod;
pub use bytes::SharedBytes;
pub use slice::SharedSlice;
