//! What a supervisor is asked for while it works: OTP's `start_child` and its like.

use crate::error::{DownReason, SupervisorError};
use crate::supervisor::engine::Engine;
use crate::supervisor::events::ChildState;
use crate::supervisor::slot::Slot;
use crate::supervisor::spec::ChildSpec;
use crate::supervisor::strategy::Restart;

/// Whether a path can name it.
pub(super) fn check_id(id: &str) -> Result<(), SupervisorError> {
    if id.contains('/') {
        return Err(SupervisorError::InvalidId { id: id.to_owned() });
    }
    Ok(())
}

impl Engine {
    fn find(&self, id: &str) -> Result<usize, SupervisorError> {
        let place = self.slots.iter().position(|slot| slot.id == id);
        place.ok_or_else(|| SupervisorError::NotFound { id: id.to_owned() })
    }

    fn find_stopped(&self, id: &str) -> Result<usize, SupervisorError> {
        let place = self.find(id)?;
        match self.slots[place].state {
            ChildState::Stopped => Ok(place),
            _ => Err(SupervisorError::Running { id: id.to_owned() }),
        }
    }

    pub(super) fn add(&mut self, spec: ChildSpec) -> Result<(), SupervisorError> {
        check_id(&spec.id)?;
        if self.slots.iter().any(|slot| slot.id == spec.id) {
            return Err(SupervisorError::DuplicateId { id: spec.id });
        }
        self.slots.push(Slot::new(self.next_key, spec));
        self.next_key += 1;
        Ok(())
    }

    pub(super) fn start_child(&mut self, spec: ChildSpec) -> Result<(), SupervisorError> {
        self.add(spec)?;
        let place = self.slots.len() - 1;
        self.start_asked(place)
            .inspect_err(|_| self.slots.remove(place).forget())
    }

    pub(super) fn restart_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let place = self.find_stopped(id)?;
        self.start_asked(place)
    }

    /// One that does not start because somebody asked for it is not tried again.
    fn start_asked(&mut self, place: usize) -> Result<(), SupervisorError> {
        self.start(place).map_err(|source| {
            let slot = &mut self.slots[place];
            slot.child
                .is_down(&DownReason::Failed(crate::error::chain_text(&source)));
            let (id, source) = (slot.id.clone(), Box::new(source));
            SupervisorError::Start { id, source }
        })
    }

    pub(super) fn stop_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let place = self.find(id)?;
        let key = self.slots[place].key;
        for pending in &mut self.pending {
            pending.keys.retain(|&other| other != key);
        }
        self.stop(place);
        self.slots[place].child.is_down(&DownReason::Shutdown);
        if self.slots[place].restart == Restart::Temporary {
            self.discard(place);
        }
        Ok(())
    }

    pub(super) fn delete_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let place = self.find_stopped(id)?;
        self.discard(place);
        Ok(())
    }
}
