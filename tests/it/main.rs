//! Integration tests: real processes through the public API, with one module for each topic. See
//! `support` for what every test uses. The children of a test are this binary again, started at the
//! same test.

mod support;

mod actor;
mod api;
mod attributes;
mod awaiting;
mod channel;
mod documented;
#[cfg(feature = "failpoints")]
mod failpoint;
mod imports;
mod metrics;
mod payload;
mod pool;
mod process;
mod queue;
mod sandbox;
mod select;
mod shared;
mod starved;
mod storm;
mod supervisor;
mod sync;
mod tidy;
mod tree;
mod usercode;
