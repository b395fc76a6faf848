//! The connections of this process, and the thread that brings them the updates of hosts in other
//! processes.

use std::any::Any;
use std::collections::HashMap;
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

/// Never returns, since this process itself holds a sender.
fn distribute(updates: &Receiver<StatusUpdate>) {
    for update in updates {
        // The lock is not held during the update, which may drop the last reference to a session,
        // and that sends a message.
        let connection = lock(connections()).get(&update.key).and_then(Weak::upgrade);
        if let Some(connection) = connection {
            connection.update(update);
            connection.wake();
        }
    }
}
