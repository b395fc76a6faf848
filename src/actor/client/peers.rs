//! The links of this process, and how news from keepers of other processes reach them.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::actor::protocol::{ActorKey, News};
use crate::channel::{Receiver, Sender, channel};
use crate::error::CreateError;
use crate::sys::{self, lock};

/// A link without its types: what news reach.
pub(in crate::actor) trait Peer: Any + Send + Sync {
    fn news(&self, news: News);
}

fn peers() -> &'static Mutex<HashMap<ActorKey, Weak<dyn Peer>>> {
    static PEERS: OnceLock<Mutex<HashMap<ActorKey, Weak<dyn Peer>>>> = OnceLock::new();
    PEERS.get_or_init(Mutex::default)
}

/// The one of this process, of this actor and type.
pub(in crate::actor) fn get_or_make<P: Peer>(key: ActorKey, make: impl FnOnce() -> P) -> Arc<P> {
    let mut peers = lock(peers());
    if let Some(peer) = peers.get(&key).and_then(Weak::upgrade) {
        let any: Arc<dyn Any + Send + Sync> = peer;
        if let Ok(peer) = any.downcast() {
            return peer;
        }
    }
    peers.retain(|_, peer| peer.strong_count() > 0);
    let made = Arc::new(make());
    let peer: Arc<dyn Peer> = made.clone();
    peers.insert(key, Arc::downgrade(&peer));
    made
}

/// Where keepers of other processes send this one their news.
pub(in crate::actor) fn news_way() -> Result<Sender<News>, CreateError> {
    static WAY: Mutex<Option<Sender<News>>> = Mutex::new(None);
    let mut way = lock(&WAY);
    if let Some(way) = &*way {
        return Ok(way.clone());
    }
    let (sender, receiver) = channel()?;
    sys::service_thread("offspring-news", move || spread(&receiver))
        .map_err(CreateError::io("start a thread"))?;
    *way = Some(sender.clone());
    Ok(sender)
}

/// Never ends, since this process holds a sender itself.
fn spread(receiver: &Receiver<News>) {
    for news in receiver {
        let peer = lock(peers()).get(&news.key).and_then(Weak::upgrade);
        if let Some(peer) = peer {
            peer.news(news);
        }
    }
}
