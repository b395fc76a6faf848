//! What a worker learns about its start.

use crate::error::DownReason;
use crate::supervisor::heartbeat::Heartbeat;

/// What a supervised worker may know of its start: given to the closure of
/// [`ChildSpec::worker_with`](crate::supervisor::ChildSpec::worker_with), to be put into the worker's fields. Plain facts: `Drop`
/// does nothing.
///
/// ```
/// use offspring::supervisor::{StartInfo, ChildSpec, Supervisor};
/// use offspring::{Sender, channel};
///
/// #[offspring::worker]
/// fn careful(generation: u64, told: Sender<String>) {
///     let how = if generation == 0 { "in full" } else { "with care" };
///     told.send(how.to_owned()).expect("the supervisor reads");
///     assert!(generation > 0, "the first one crashes");
///     offspring::current().wait_stopping();
/// }
/// #[offspring::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (told, tells) = channel()?;
///     let spec = ChildSpec::worker_with("careful", move |info: &StartInfo| careful::new(info.generation(), told.clone()));
///     let supervisor = Supervisor::builder().child(spec).start()?;
///     assert_eq!(tells.recv()?, "in full");
///     assert_eq!(tells.recv()?, "with care"); // once more, after it had crashed
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
        StartInfo {
            generation,
            previous,
            heartbeat,
        }
    }

    /// How often it was started before.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How the worker before it ended; `None` for the first.
    #[must_use]
    pub fn previous(&self) -> Option<&DownReason> {
        self.previous.as_ref()
    }

    /// Its heart, if its [`heartbeat`](crate::supervisor::ChildSpec::heartbeat) is watched.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Heartbeat> {
        self.heartbeat.clone()
    }
}
