//! Each shortage, beside each call that needs what is short: the call returns an error or does
//! without, nothing that was accepted is lost, and everything works again once the shortage is
//! over. `tests/abort.rs` runs the same where panics abort.
//!
//! `OFFSPRING_STARVE` set to anything runs every pair; the default is a sample.

mod addresses;
mod buffers;
mod calls;
mod matrix;
mod pool;
mod shortage;
mod system;

#[offspring::test(timeout = "900s")]
fn what_a_call_lacks_is_its_error_and_nothing_else() {
    let failures = matrix::failures();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
