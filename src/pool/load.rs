//! The pools of this process, for `metrics`.

use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use crate::pool::shared::PoolShared;
use crate::sys::lock;

static POOLS: Mutex<Vec<Weak<PoolShared>>> = Mutex::new(Vec::new());

/// The load of a pool at the moment.
pub(crate) struct PoolLoad {
    pub(crate) name: String,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) workers: u64,
}

pub(super) fn list(pool: &Arc<PoolShared>) {
    let mut pools = lock(&POOLS);
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(pool));
}

pub(crate) fn loads() -> Vec<PoolLoad> {
    // This may drop the last reference to a pool, which must not happen under the lock.
    let pools: Vec<_> = lock(&POOLS).iter().filter_map(Weak::upgrade).collect();
    let load = |pool: &Arc<PoolShared>| {
        let (queued, running, _, workers) = pool.read(|state| state.stats(Instant::now()));
        let workers = workers.iter().filter(|worker| worker.pid.is_some()).count() as u64;
        PoolLoad { name: pool.settings.name.clone(), queued, running, workers }
    };
    pools.iter().map(load).collect()
}
