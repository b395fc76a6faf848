//! Pools, over the checklist of crashes, limits and ends.

mod basics;
mod crashes;
mod ends;
mod limits;
mod program;
