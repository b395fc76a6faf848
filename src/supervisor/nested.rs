//! A supervisor under another one, in the same process.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, mpsc};

use crate::error::{DownReason, StartError, SupervisorError, chain_text};
use crate::supervisor::builder::{Plan, SupervisorBuilder};
use crate::supervisor::child::{Child, OnEnd};
use crate::supervisor::engine::{Engine, Fate, Message};
use crate::supervisor::events::SupervisorEnd;
use crate::supervisor::requests::check_id;
use crate::supervisor::slot::Slot;
use crate::supervisor::strategy::{Restart, Shutdown};
use crate::supervisor::view::View;
use crate::sys::lock;

pub(super) struct NestedChild {
    plan: Plan,
    view: Arc<View>,
    /// The children, while it does not run.
    home: Arc<Mutex<Option<Vec<Slot>>>>,
    running: Option<mpsc::Sender<Message>>,
}

impl NestedChild {
    pub(super) fn new(builder: SupervisorBuilder) -> NestedChild {
        let (plan, specs) = builder.into_parts();
        let slots = specs
            .into_iter()
            .zip(0..)
            .map(|(spec, key)| Slot::new(key, spec))
            .collect();
        NestedChild {
            plan,
            view: Arc::default(),
            home: Arc::new(Mutex::new(Some(slots))),
            running: None,
        }
    }

    fn each(&mut self, act: impl FnMut(&mut Slot)) {
        if let Some(slots) = &mut *lock(&self.home) {
            slots.iter_mut().rev().for_each(act);
        }
    }

    /// What its builder could not refuse, since it is started only now.
    fn check(&self) -> Result<(), SupervisorError> {
        self.plan.check()?;
        let mut ids = HashSet::new();
        for slot in lock(&self.home).iter().flatten() {
            check_id(&slot.id)?;
            if !ids.insert(&slot.id) {
                return Err(SupervisorError::DuplicateId {
                    id: slot.id.clone(),
                });
            }
        }
        Ok(())
    }

    fn launch(&mut self, on_end: OnEnd) -> Result<(), SupervisorError> {
        self.check()?;
        self.running = None;
        // They are not there only if the thread that had them ended by a panic.
        let slots = lock(&self.home).take().ok_or(SupervisorError::Ended)?;
        let home = self.home.clone();
        let engine = Engine::new(self.plan, Fate::Open, slots, self.view.clone());
        let outbox = engine.launch(
            move |slots| *lock(&home) = Some(slots),
            |end| {
                on_end(match end {
                    SupervisorEnd::Stopped => DownReason::Shutdown,
                    end => DownReason::GaveUp(end.to_string()),
                });
            },
        )?;
        self.running = Some(outbox);
        Ok(())
    }
}

impl Child for NestedChild {
    fn start(&mut self, _: Restart, on_end: OnEnd) -> Result<(), StartError> {
        self.launch(on_end).map_err(|error| StartError::Down {
            actor: "a supervisor".to_owned(),
            reason: DownReason::Failed(chain_text(&error)),
        })
    }

    fn stop(&mut self, _: Shutdown) {
        let Some(running) = self.running.take() else {
            return;
        };
        // One that has given up in this moment does not hear it, and ends all the same.
        let _ = running.send(Message::Stop);
        self.view.wait_end(None);
    }

    fn will_restart(&mut self, _: &DownReason) {
        self.each(|slot| slot.child.will_restart(&DownReason::Shutdown));
    }

    fn is_down(&mut self, _: &DownReason) {
        self.each(|slot| slot.child.is_down(&DownReason::Shutdown));
    }

    fn pid(&self) -> Option<u32> {
        None
    }

    fn nested(&self) -> Option<Arc<View>> {
        Some(self.view.clone())
    }
}
