//! Guides: text whose programs are compiled and run with the tests.

#[doc = include_str!("../docs/python.md")]
pub mod python {}

#[doc = include_str!("../docs/gotchas.md")]
pub mod gotchas {}

#[doc = include_str!("../docs/worth.md")]
pub mod worth {}

#[doc = include_str!("../docs/libraries.md")]
pub mod libraries {}

#[doc = include_str!("../docs/hosts.md")]
pub mod hosts {}

#[doc = include_str!("../docs/servers.md")]
pub mod servers {}

#[doc = include_str!("../docs/cancellation.md")]
pub mod cancellation {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}

#[cfg(feature = "sandbox")]
#[doc = include_str!("../docs/sandbox.md")]
pub mod sandbox {}
