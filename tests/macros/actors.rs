//! Actors as users write them.
#![deny(warnings)]
#![allow(unreachable_pub)]

use std::error::Error;

use offspring::actor::{CallError, Checkpoint, Context, DownReason};

pub struct Counter {
    value: u64,
}

#[offspring::actor]
impl Counter {
    /// What `add` multiplies by.
    pub const STEP: u64 = 1;

    /// Starts with a value.
    pub fn start(value: u64, context: &Context<Self>) -> Result<Self, Box<dyn Error>> {
        let value = context.checkpoint()?.unwrap_or(value);
        Ok(Counter { value })
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.value
    }

    #[cast]
    pub fn add(&mut self, n: u64) {
        self.helper(n);
    }

    pub fn r#type(&mut self) {}

    #[cfg(any())]
    pub fn not_here(&self, thing: NotThere) {}

    #[deprecated]
    #[allow(clippy::unused_self)]
    pub fn old(&self) -> Option<(u8, String)> {
        None
    }

    fn helper(&mut self, n: u64) {
        self.value += n * Self::STEP;
    }

    fn stop(&mut self, reason: &DownReason) {
        assert!(reason.is_normal());
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        Checkpoint::new(&self.value).ok()
    }
}

struct Quiet;

#[offspring::actor]
impl Quiet {
    fn start() -> Self {
        Quiet
    }
}

#[offspring::test(timeout = "60s")]
fn an_actor_is_called_by_its_methods() -> Result<(), Box<dyn Error>> {
    let counter = Counter::spawn(10)?;
    counter.add(5)?;
    assert_eq!(counter.get()?, 15);
    let handle: CounterHandle = counter.address();
    assert_eq!(handle, counter.address());
    let slow: Result<u64, CallError> =
        handle.with_timeout(std::time::Duration::from_secs(30)).get();
    assert_eq!(slow?, 15);
    let _quiet: offspring::actor::ActorOwner<QuietHandle> = Quiet::spawn()?;
    Ok(())
}
