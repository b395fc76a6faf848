//! What the macros accept. What they reject is in `tests/ui`.

mod macros {
    mod actors;
    mod derived_types;
    mod entries;
    mod worker_functions;
}
