//! The pools of this process, for `metrics`.

use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use crate::pool::shared::PoolShared;
use crate::sys::lock;

static POOLS: Mutex<Vec<Weak<PoolShared>>> = Mutex::new(Vec::new());

/// What a pool does now.
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
    // The last reference to a pool may be dropped here, and not under the lock.
    let pools: Vec<_> = lock(&POOLS).iter().filter_map(Weak::upgrade).collect();
    let load = |pool: &Arc<PoolShared>| {
        let (queued, running, _, workers) = pool.read(|state| state.stats(Instant::now()));
        let workers = workers.iter().filter(|worker| worker.pid.is_some()).count() as u64;
        PoolLoad { name: pool.settings.name.clone(), queued, running, workers }
    };
    pools.iter().map(load).collect()
}
