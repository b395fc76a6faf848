//! Memory that processes share without copying.
//!
//! [`SharedSlice`] holds numbers (or other plain data) that every process may read and write, [`SharedBytes`] bytes
//! that are written once and then only read, and the atomics ([`AtomicU64`] and its siblings) one number each.
//! Handles travel in worker fields, items and messages; only the handle is sent, whatever the size.
//!
//! There are no names in a file system: the memory ends with its last handle, also when processes are killed, and
//! it does not need the process that made it. It is all there from the beginning, so that memory which cannot be
//! had is an error when it is made, and never a signal when it is used.
//!
//! Nothing here waits. For data that must change as a whole, put it into a [`sync::Mutex`](crate::sync::Mutex) or
//! [`sync::RwLock`](crate::sync::RwLock): these hold their value in shared memory as well, and give `&mut` to it.
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
/// Plain data: any bits are a value, and there is no padding. `#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]`
/// on a `#[repr(C)]` struct makes it so (with `bytemuck` in `Cargo.toml`, and its feature `derive`).
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
