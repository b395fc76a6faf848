//! Names for processes and actors that have none of their own.

use std::sync::atomic::{AtomicU64, Ordering};

/// Returns `Consumer-1` for `app::jobs::Consumer`, `Sum-2` for `app::Sum<f32>`. `count` continues
/// the numbers.
pub(crate) fn default_name(type_name: &str, count: &AtomicU64) -> String {
    let plain = type_name.split('<').next().unwrap_or(type_name);
    let short = plain.rsplit("::").next().unwrap_or(plain);
    format!("{short}-{}", count.fetch_add(1, Ordering::Relaxed) + 1)
}
