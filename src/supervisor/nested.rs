//! A supervisor under another one, in the same process.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, mpsc};

use crate::error::{DownReason, StartError, SupervisorError};
use crate::supervisor::builder::{RestartPolicy, SupervisorBuilder};
use crate::supervisor::child::{Child, OnChildEnd};
use crate::supervisor::engine::{Engine, Level, check_id};
use crate::supervisor::events::SupervisorEnd;
use crate::supervisor::message::EngineMessage;
use crate::supervisor::slot::ChildSlot;
use crate::supervisor::strategy::{Restart, Shutdown};
use crate::supervisor::view::SupervisorView;
use crate::sys::lock;

pub(super) struct NestedChild {
    policy: RestartPolicy,
    view: Arc<SupervisorView>,
    /// The children while the supervisor does not run; its thread has them otherwise.
    idle: Arc<Mutex<Option<Vec<ChildSlot>>>>,
    running: Option<mpsc::Sender<EngineMessage>>,
}

impl NestedChild {
    pub(super) fn new(builder: SupervisorBuilder) -> NestedChild {
        let (policy, specs) = builder.into_parts();
        let slots = specs.into_iter().zip(0..);
        let slots = slots.map(|(spec, key)| ChildSlot::new(key, spec)).collect();
        NestedChild {
            policy,
            view: Arc::default(),
            idle: Arc::new(Mutex::new(Some(slots))),
            running: None,
        }
    }

    pub(super) fn view(&self) -> Arc<SupervisorView> {
        self.view.clone()
    }

    /// Last first.
    fn for_each_idle(&self, act: impl FnMut(&mut ChildSlot)) {
        if let Some(slots) = &mut *lock(&self.idle) {
            slots.iter_mut().rev().for_each(act);
        }
    }

    /// Checks here what a builder does not check.
    fn check(&self) -> Result<(), SupervisorError> {
        self.policy.check()?;
        let mut ids = HashSet::new();
        for slot in lock(&self.idle).iter().flatten() {
            check_id(&slot.id)?;
            if !ids.insert(&slot.id) {
                let id = slot.id.clone();
                return Err(SupervisorError::DuplicateId { id });
            }
        }
        Ok(())
    }

    fn launch(&mut self, on_end: OnChildEnd) -> Result<(), SupervisorError> {
        self.check()?;
        self.running = None;
        // They are missing only if the thread that had them panicked.
        let slots = lock(&self.idle).take().ok_or(SupervisorError::Ended)?;
        let idle = self.idle.clone();
        let engine = Engine::new(self.policy, Level::Nested, slots, self.view.clone());
        let outbox = engine.launch(
            move |slots| *lock(&idle) = Some(slots),
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
    fn start(&mut self, _: Restart, on_end: OnChildEnd) -> Result<(), StartError> {
        self.launch(on_end).map_err(|error| StartError::Down {
            actor: "a supervisor".to_owned(),
            reason: DownReason::Failed(error.to_string()),
        })
    }

    /// Waits without a limit of its own: each child below has one.
    fn stop(&mut self, _: Shutdown) {
        let Some(running) = self.running.take() else {
            return;
        };
        // If it has just given up, it does not receive this message, but it ends anyway.
        let _ = running.send(EngineMessage::Stop);
        self.view.wait_end(None);
    }

    fn announce_restart(&mut self, _: &DownReason) {
        self.for_each_idle(|slot| slot.child.announce_restart(&DownReason::Shutdown));
    }

    fn announce_down(&mut self, reason: &DownReason) {
        let reason = match reason {
            DownReason::SupervisorGaveUp { .. } => reason,
            _ => &DownReason::Shutdown,
        };
        self.for_each_idle(|slot| slot.child.announce_down(reason));
    }

    fn pid(&self) -> Option<u32> {
        None
    }
}
