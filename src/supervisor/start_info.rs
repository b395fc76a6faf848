//! What a worker learns about its start.

use crate::error::DownReason;
use crate::supervisor::heartbeat::Heartbeat;

/// Facts for a supervised worker about its start. Plain data: dropping it does nothing.
///
/// The closure of [`ChildSpec::worker_with`](crate::supervisor::ChildSpec::worker_with) receives it
/// and copies what the worker needs into the worker's fields.
///
/// ```
/// use offspring::supervisor::{ChildSpec, StartInfo, Supervisor};
/// use offspring::{Sender, channel};
///
/// #[offspring::worker]
/// fn recover(generation: u64, log: Sender<String>) {
///     let mode = if generation == 0 { "normal" } else { "safe mode" };
///     log.send(mode.to_owned()).expect("the program reads the log");
///     assert!(generation > 0, "the first worker crashes");
///     offspring::current().wait_stopping();
/// }
///
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (log, lines) = channel()?;
///     let spec = ChildSpec::worker_with("recover", move |info: &StartInfo| {
///         recover::new(info.generation(), log.clone())
///     });
///     let supervisor = Supervisor::builder().child(spec).start()?;
///     assert_eq!(lines.recv()?, "normal");
///     assert_eq!(lines.recv()?, "safe mode"); // restarted after the crash
///     supervisor.stop();
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct StartInfo {
    generation: u64,
    previous: Option<DownReason>,
    heartbeat: Option<Heartbeat>,
}

impl StartInfo {
    pub(super) fn new(
        generation: u64,
        previous: Option<DownReason>,
        heartbeat: Option<Heartbeat>,
    ) -> StartInfo {
        StartInfo { generation, previous, heartbeat }
    }

    /// Returns the number of earlier starts: 0 for the first worker.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns how the previous worker ended; `None` for the first.
    #[must_use]
    pub fn previous(&self) -> Option<&DownReason> {
        self.previous.as_ref()
    }

    /// Returns the worker's heartbeat; `None` if its
    /// [`ChildSpec`](crate::supervisor::ChildSpec::heartbeat) sets no limit.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Heartbeat> {
        self.heartbeat.clone()
    }
}
