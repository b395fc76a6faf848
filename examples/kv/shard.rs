//! A shard: an actor that holds a part of the keys.

use std::collections::HashMap;
use std::error::Error;

use offspring::actor::{Checkpoint, Context};

pub(crate) struct Shard {
    entries: HashMap<String, String>,
    /// Since the last checkpoint.
    changed: bool,
}

#[offspring::actor]
impl Shard {
    /// Starts with the entries of the previous incarnation.
    pub(crate) fn start(context: &Context<Self>) -> Result<Self, Box<dyn Error>> {
        let entries = context.checkpoint()?.unwrap_or_default();
        let changed = false;
        Ok(Shard { entries, changed })
    }

    /// Sets a key. Once this returns, the entry survives the death of the shard.
    pub fn set(&mut self, key: String, value: String) {
        self.entries.insert(key, value);
        self.changed = true;
    }

    pub fn get(&self, key: String) -> Option<String> {
        self.entries.get(&key).cloned()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        // All entries after each change. That is fine for hundreds of them; a real store writes a
        // log.
        let changed = std::mem::take(&mut self.changed);
        changed.then(|| Checkpoint::new(&self.entries).expect("text encodes"))
    }
}
