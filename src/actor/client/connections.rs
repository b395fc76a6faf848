//! The connections of this process, and the thread that brings them the updates of hosts in other
//! processes.

use std::any::Any;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::actor::host::record::StatusListener;
use crate::actor::protocol::{ActorKey, StatusUpdate};
use crate::channel::{Receiver, Sender, channel};
use crate::error::CreateError;
use crate::sys::{self, lock};

fn connections() -> &'static Mutex<HashMap<ActorKey, Weak<dyn StatusListener>>> {
    static CONNECTIONS: OnceLock<Mutex<HashMap<ActorKey, Weak<dyn StatusListener>>>> =
        OnceLock::new();
    CONNECTIONS.get_or_init(Mutex::default)
}

/// Returns this process's connection to the actor. The first call makes it.
pub(in crate::actor) fn get_or_make<C: StatusListener>(
    key: ActorKey,
    make: impl FnOnce() -> C,
) -> Arc<C> {
    let mut connections = lock(connections());
    if let Some(connection) = connections.get(&key).and_then(Weak::upgrade) {
        let any: Arc<dyn Any + Send + Sync> = connection;
        if let Ok(connection) = any.downcast() {
            return connection;
        }
    }
    connections.retain(|_, connection| connection.strong_count() > 0);
    let made = Arc::new(make());
    let connection: Arc<dyn StatusListener> = made.clone();
    connections.insert(key, Arc::downgrade(&connection));
    made
}

/// Returns the channel through which hosts in other processes send their updates. The first call
/// starts the thread that receives them.
pub(in crate::actor) fn update_sender() -> Result<Sender<StatusUpdate>, CreateError> {
    static SENDER: Mutex<Option<Sender<StatusUpdate>>> = Mutex::new(None);
    let mut shared = lock(&SENDER);
    if let Some(sender) = &*shared {
        return Ok(sender.clone());
    }
    let (sender, receiver) = channel()?;
    sys::service_thread("offspring-updates", move || distribute(&receiver))
        .map_err(CreateError::io("start a thread"))?;
    *shared = Some(sender.clone());
    Ok(sender)
}

/// Returns the number under which this process subscribes to an actor. It depends on a secret, and
/// only the actor's host learns it.
pub(in crate::actor) fn subscription(key: ActorKey) -> u64 {
    static SECRET: OnceLock<RandomState> = OnceLock::new();
    SECRET.get_or_init(RandomState::new).hash_one(key)
}

/// Never returns, since this process itself holds a sender.
fn distribute(updates: &Receiver<StatusUpdate>) {
    updates.iter().for_each(deliver);
}

fn deliver(update: StatusUpdate) {
    // Every host has this process's sender, and may write any key.
    if update.client != subscription(update.key) {
        return;
    }
    // The lock is not held during the update, which may drop the last reference to a session, and
    // that sends a message.
    let connection = lock(connections()).get(&update.key).and_then(Weak::upgrade);
    if let Some(connection) = connection {
        connection.update(update);
        connection.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::protocol::ActorStatus;
    use crate::error::DownReason;

    #[derive(Default)]
    struct Heard(Mutex<u32>);

    impl StatusListener for Heard {
        fn update(&self, _: StatusUpdate) {
            *lock(&self.0) += 1;
        }

        fn wake(&self) {}
    }

    #[test]
    fn a_process_that_is_not_the_host_of_an_actor_does_not_report_on_it() {
        let key = ActorKey { host: 3, number: 4 };
        let connection = get_or_make(key, Heard::default);
        let update = |client| StatusUpdate {
            key,
            client,
            status: ActorStatus::Down { generation: 0, reason: DownReason::Normal },
            mailbox: None,
        };
        // Another host sends the number that it has learned from this process.
        deliver(update(subscription(ActorKey { host: 5, number: 4 })));
        assert_eq!(*lock(&connection.0), 0);
        deliver(update(subscription(key)));
        assert_eq!(*lock(&connection.0), 1);
    }
}
