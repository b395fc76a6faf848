//! Requests to a running supervisor: OTP's `start_child`, `terminate_child`, `restart_child` and
//! `delete_child`.

use crate::error::{DownReason, SupervisorError};
use crate::supervisor::child_info::ChildState;
use crate::supervisor::engine::{Engine, check_id};
use crate::supervisor::message::ChildRequest;
use crate::supervisor::slot::ChildSlot;
use crate::supervisor::spec::ChildSpec;
use crate::supervisor::strategy::Restart;

impl Engine {
    pub(super) fn handle_request(&mut self, request: ChildRequest) -> Result<(), SupervisorError> {
        match request {
            ChildRequest::Start(spec) => self.start_child(spec),
            ChildRequest::Stop(id) => self.stop_child(&id),
            ChildRequest::Restart(id) => self.restart_child(&id),
            ChildRequest::Delete(id) => self.delete_child(&id),
        }
    }

    fn find(&self, id: &str) -> Result<usize, SupervisorError> {
        let index = self.slots.iter().position(|slot| slot.id == id);
        index.ok_or_else(|| SupervisorError::NotFound { id: id.to_owned() })
    }

    fn find_stopped(&self, id: &str) -> Result<usize, SupervisorError> {
        let index = self.find(id)?;
        match self.slots[index].state {
            ChildState::Stopped => Ok(index),
            _ => Err(SupervisorError::Running { id: id.to_owned() }),
        }
    }

    /// Adds a child without starting it.
    pub(super) fn add(&mut self, spec: ChildSpec) -> Result<(), SupervisorError> {
        check_id(&spec.id)?;
        if self.slots.iter().any(|slot| slot.id == spec.id) {
            return Err(SupervisorError::DuplicateId { id: spec.id });
        }
        self.slots.push(ChildSlot::new(self.next_key, spec));
        self.next_key += 1;
        Ok(())
    }

    fn start_child(&mut self, spec: ChildSpec) -> Result<(), SupervisorError> {
        self.add(spec)?;
        let index = self.slots.len() - 1;
        self.start_once(index).inspect_err(|_| self.slots.remove(index).forget())
    }

    fn restart_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let index = self.find_stopped(id)?;
        self.start_once(index)
    }

    /// Starts a child on request: if that fails, the caller learns of it, and the supervisor does
    /// not retry.
    fn start_once(&mut self, index: usize) -> Result<(), SupervisorError> {
        self.start(index).map_err(|cause| {
            let slot = &mut self.slots[index];
            let reason = DownReason::Failed(cause.to_string());
            slot.child.announce_down(&reason);
            let (id, cause) = (slot.id.clone(), Box::new(cause));
            SupervisorError::Start { id, cause }
        })
    }

    fn stop_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let index = self.find(id)?;
        let key = self.slots[index].key;
        for pending in &mut self.pending {
            pending.keys.retain(|&other| other != key);
        }
        self.stop(index);
        self.slots[index].child.announce_down(&DownReason::Shutdown);
        if self.slots[index].restart == Restart::Temporary {
            self.remove(index);
        }
        Ok(())
    }

    fn delete_child(&mut self, id: &str) -> Result<(), SupervisorError> {
        let index = self.find_stopped(id)?;
        self.remove(index);
        Ok(())
    }
}
