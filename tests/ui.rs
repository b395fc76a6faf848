//! What the macros reject, with the exact text of each error.

/// Only cases that fail, so that trybuild checks all of them in one run of cargo. What the macros
/// accept is in `tests/macros`.
#[test]
fn ui() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
