//! The fair mutex of actors. It is visible in this module only.

#[path = "../../src/actor/worker/fair_mutex.rs"]
mod fair_mutex;

use std::sync::Arc;

use crate::explore::{self, Bounds, Found, Threads, explore};
use fair_mutex::FairMutex;

/// Three threads take turns, two each.
pub(crate) fn take_turns(bounds: Bounds) -> Found {
    explore(bounds, || {
        let turns = Arc::new(FairMutex::new(Vec::new()));
        let thread = |id: usize| {
            let turns = turns.clone();
            move || {
                for _ in 0..2 {
                    let mut turns = turns.lock();
                    // Time for another thread to come in.
                    explore::act(|_, _| ());
                    turns.push(id);
                }
            }
        };
        let threads: Threads = (0..3).map(|id| Box::new(thread(id)) as Box<_>).collect();
        let check = move |_| {
            let turns = turns.lock();
            let all = (0..3).all(|id| turns.iter().filter(|&&turn| turn == id).count() == 2);
            assert!(all, "{turns:?}", turns = *turns);
        };
        (threads, Box::new(check))
    })
}
