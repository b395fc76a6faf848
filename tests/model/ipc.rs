//! The library's code that is explored, on the explorer's memory. Stands in for its `ipc` module.

#[path = "../../src/ipc/deadline.rs"]
pub(crate) mod deadline;
#[path = "../../src/ipc/doorbell.rs"]
pub(crate) mod doorbell;
#[path = "../../src/ipc/event_stream.rs"]
pub(crate) mod event_stream;
#[path = "../../src/ipc/fuzz.rs"]
pub(crate) mod fuzz;
#[path = "../../src/ipc/parking.rs"]
pub(crate) mod parking;
#[path = "../../src/ipc/reactor.rs"]
pub(crate) mod reactor;
#[path = "../../src/ipc/ring.rs"]
pub(crate) mod ring;
#[path = "../../src/ipc/small_bytes.rs"]
pub(crate) mod small_bytes;
#[path = "../../src/ipc/waitable.rs"]
pub(crate) mod waitable;
#[path = "../../src/ipc/weak_map.rs"]
pub(crate) mod weak_map;

pub(crate) mod region {
    pub(crate) use crate::memory::{AtomicU64, Region, fence};
}

/// Polling is only a check more, and how long it takes is not explored.
pub(crate) mod spin {
    use std::time::Instant;

    #[derive(Debug)]
    pub(crate) struct Spin;

    impl Spin {
        pub(crate) fn new() -> Spin {
            Spin
        }

        pub(crate) fn run<R>(
            &self,
            _: Option<Instant>,
            _: &mut impl FnMut() -> Option<R>,
        ) -> Option<R> {
            None
        }
    }
}

pub(crate) mod wire {
    use std::io;
    use std::marker::PhantomData;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::deadline::{TimeLimit, WaitEnd, Waited};
    use crate::explore;
    use crate::sys::{self, RawSocket};

    /// In a run, a panic is a finding of the explorer, so none is caught.
    pub(crate) fn catch_panic<R>(what: &str, call: impl FnOnce() -> R) -> io::Result<R> {
        if explore::is_exploring() {
            return Ok(call());
        }
        catch_unwind(AssertUnwindSafe(call)).map_err(|_| io::Error::other(what.to_owned()))
    }

    #[derive(Debug)]
    pub(crate) enum Failure {
        Gone,
        Full,
        Starved,
        Io(io::Error),
    }

    /// Receives doorbells, which are all the same.
    #[derive(Debug)]
    pub(crate) struct CheckedReceiver<M>(pub(crate) RawSocket, pub(crate) PhantomData<fn() -> M>);

    impl<M: serde::de::DeserializeOwned> CheckedReceiver<M> {
        pub(crate) fn socket(&self) -> RawSocket {
            self.0
        }

        pub(crate) fn duplicate(&self) -> io::Result<CheckedReceiver<M>> {
            Ok(CheckedReceiver(self.0, PhantomData))
        }

        pub(crate) fn to<N>(&self) -> CheckedReceiver<N> {
            CheckedReceiver(self.0, PhantomData)
        }

        pub(crate) fn recv<L: TimeLimit>(&mut self, limit: &L) -> Waited<M, Failure, L> {
            match sys::receive(self.0, || limit.check().err()) {
                sys::Received::Packet => {
                    Ok(serde_json::from_value(serde_json::Value::Null).expect("it has no content"))
                }
                sys::Received::End => Err(WaitEnd::Failed(Failure::Gone)),
                sys::Received::Late(elapsed) => Err(WaitEnd::Timeout(elapsed)),
            }
        }
    }
}
