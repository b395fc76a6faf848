//! Where a process that keeps actors can be asked: how one is, to stop one, where one of a name is.
//!
//! One queue and one thread for all actors of the process. The thread runs no user's code, and waits for nobody longer
//! than news take.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::actor::host::record::Post;
use crate::actor::names;
use crate::actor::protocol::{ActorKey, DeskRequest, Entry, News, Status, own_number};
use crate::channel::Sender;
use crate::error::{CreateError, DownReason, GetError};
use crate::queue::{Queue, QueueKind};
use crate::sys::{self, lock};

/// Of so many actors that are down for good it is known how they ended.
const DOWN_MAX: usize = 1024;
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Posts {
    next: u64,
    all: HashMap<u64, Arc<Post>>,
    down: VecDeque<u64>,
}

fn posts() -> &'static Mutex<Posts> {
    static POSTS: OnceLock<Mutex<Posts>> = OnceLock::new();
    POSTS.get_or_init(Mutex::default)
}

/// Makes the post of a new actor.
pub(crate) fn open_post(name: &str, mailbox: usize) -> Result<Arc<Post>, CreateError> {
    own_desk()?;
    let number = {
        let mut posts = lock(posts());
        posts.next += 1;
        posts.next
    };
    let owner = own_number();
    let post = Arc::new(Post::new(ActorKey { owner, number }, name, mailbox)?);
    lock(posts()).all.insert(number, post.clone());
    Ok(post)
}

/// An actor is down for good: it is remembered for a while, for those who ask how it ended.
pub(crate) fn close_post(post: &Post, generation: u64, reason: DownReason) {
    post.publish(Status::Down { generation, reason });
    let mut posts = lock(posts());
    posts.down.push_back(post.key.number);
    if posts.down.len() > DOWN_MAX {
        let oldest = posts.down.pop_front();
        oldest.and_then(|oldest| posts.all.remove(&oldest));
    }
}

/// An actor that never started: nobody can ask for it.
pub(crate) fn remove_post(post: &Post) {
    post.publish(Status::Down {
        generation: post.generation(),
        reason: post.previous().unwrap_or(DownReason::Normal),
    });
    lock(posts()).all.remove(&post.key.number);
}

pub(in crate::actor) fn post(number: u64) -> Option<Arc<Post>> {
    lock(posts()).all.get(&number).cloned()
}

/// The queue at which this process is asked.
pub(in crate::actor) fn own_desk() -> Result<Queue<DeskRequest>, CreateError> {
    static DESK: Mutex<Option<Queue<DeskRequest>>> = Mutex::new(None);
    let mut desk = lock(&DESK);
    if let Some(desk) = &*desk {
        return Ok(desk.clone());
    }
    let queue = Queue::builder().kind(QueueKind::Internal).build()?;
    // A process that never puts would look idle to the queue, and the queue abandoned when its last client goes.
    let _ = queue.put(DeskRequest::Nothing);
    let requests = queue.clone();
    sys::service_thread("offspring-actors", move || serve(&requests))
        .map_err(CreateError::io("start a thread"))?;
    *desk = Some(queue.clone());
    names::pass_on();
    Ok(queue)
}

fn serve(requests: &Queue<DeskRequest>) {
    let mut names = HashMap::new();
    loop {
        match requests.get() {
            Ok(request) => answer(request, &mut names),
            Err(GetError::Decode(error)) => {
                log::error!(target: "offspring::actor", "a request was passed over: {error}")
            }
            // The program ends.
            Err(_) => return,
        }
    }
}

fn answer(request: DeskRequest, names: &mut HashMap<String, Entry>) {
    match request {
        DeskRequest::Nothing => {}
        DeskRequest::Attach {
            number,
            client,
            news,
            mailbox,
        } => attach(number, client, news, mailbox),
        DeskRequest::Stop { number } => {
            if let Some(post) = post(number) {
                post.ask_to_stop_soon();
            }
        }
        DeskRequest::Register { name, entry, done } => {
            let free = !names.contains_key(&name);
            if free {
                names.insert(name, entry);
            }
            let _ = done.send_timeout(free, PATIENCE);
        }
        DeskRequest::Unregister { name, key } => {
            if names.get(&name).is_some_and(|entry| entry.key == key) {
                names.remove(&name);
            }
        }
        DeskRequest::Find { name, found } => {
            let _ = found.send_timeout(names.get(&name).cloned(), PATIENCE);
        }
    }
}

fn attach(number: u64, client: u64, news: Sender<News>, mailbox: bool) {
    let Some(post) = post(number) else {
        let owner = own_number();
        let status = Status::Down {
            generation: 0,
            reason: DownReason::Normal,
        };
        let key = ActorKey { owner, number };
        let mailbox = None;
        let _ = news.send_timeout(
            News {
                key,
                status,
                mailbox,
            },
            PATIENCE,
        );
        return;
    };
    post.subscribe_there(client, news, mailbox);
}
