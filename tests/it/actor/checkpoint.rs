//! Checkpoints: made only when something changed.

use offspring::actor::{Checkpoint, Context};
use offspring::supervisor::{ChildSpec, Supervisor};

/// Makes a checkpoint when its value has changed, and counts them.
struct Saver {
    value: u64,
    changed: bool,
    made: u64,
}

#[offspring::actor]
impl Saver {
    fn start(context: &Context<Self>) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Saver { value: context.checkpoint()?.unwrap_or(0), changed: false, made: 0 })
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        self.made += 1;
        Some(Checkpoint::new(&self.value).expect("a number encodes"))
    }

    pub fn set(&mut self, value: u64) {
        self.value = value;
        self.changed = true;
    }

    pub fn get(&self) -> u64 {
        self.value
    }

    pub fn made(&self) -> u64 {
        self.made
    }

    pub fn crash(&self) {
        std::process::abort();
    }
}

#[offspring::test(timeout = "30s")]
fn a_checkpoint_is_made_when_something_changed_and_else_the_last_one_stays() {
    let saver = ChildSpec::actor::<Saver>("saver", ());
    let supervisor = Supervisor::builder().child(saver).start().unwrap();
    let saver: SaverHandle = supervisor.handle("saver").unwrap();
    saver.set(7).unwrap();
    for _ in 0..10 {
        assert_eq!(saver.get().unwrap(), 7);
    }
    saver.set(8).unwrap();
    assert_eq!(saver.made().unwrap(), 2);
    assert!(saver.crash().is_err());
    assert_eq!(saver.get().unwrap(), 8);
    assert!(saver.crash().is_err());
    assert_eq!(saver.get().unwrap(), 8, "that of two incarnations before");
    assert_eq!(saver.made().unwrap(), 0);
}
