//! `main` and tests keep their attributes, their results and their names.
#![deny(warnings)]

use std::error::Error;

// Even if the short name is taken.
use offspring::test;

#[test(timeout = "10s")]
fn of_a_value_that_is_not_send() -> Result<(), Box<dyn Error>> {
    Ok(())
}

#[test]
#[should_panic(expected = "boom")]
fn panics() {
    panic!("boom");
}

#[offspring::main]
#[allow(dead_code, unused_variables)]
#[allow(clippy::mixed_attributes_style, reason = "both kinds must be kept")]
fn main() -> Result<(), Box<dyn Error>> {
    #![allow(unused_mut)]
    let mut unused = ();
    Ok(())
}
