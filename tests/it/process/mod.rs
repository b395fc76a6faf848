//! Processes: start, arguments, stdio, end, family, faults. A test that counts something of its
//! whole process runs its scene in a worker, since the test binary runs many tests at once.

pub(crate) mod stage;

mod arguments;
mod descriptors;
mod detach;
mod early;
mod end;
mod escapes;
mod exit;
mod family;
mod faults;
mod group;
mod idle;
mod image;
mod join;
mod limits;
mod memory;
mod names;
mod output;
mod race;
mod rogue;
mod room;
mod runtime;
pub(crate) mod signals;
mod start;
mod stdio;
mod stop;
mod surroundings;
mod terminal;
mod tree;
mod unix;
