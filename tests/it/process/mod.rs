//! Start and end of processes.

mod start;
