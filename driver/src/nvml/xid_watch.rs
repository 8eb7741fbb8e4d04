//! Waiting for critical errors, across sessions and for all GPUs that become known.

use std::sync::Arc;
use std::time::Duration;

use super::raw::{DeviceHandle, Failure};
use super::session::{Session, Sessions};
use super::{on_gpu, raw_events};
use crate::gpus::{GpuError, Reason, XidEvent, XidWatch};

/// Registered events of one session.
struct Subscription {
    session: Arc<Session>,
    set: raw_events::EventSet,
    gpus: Vec<(DeviceHandle, String)>,
}

impl Subscription {
    fn new(session: Arc<Session>) -> Result<Self, Failure> {
        let lib = session.nvml.lib();
        let set = raw_events::create(lib)?;
        let mut gpus = Vec::new();
        for gpu in session.gpus() {
            gpus.push((gpu.handle, gpu.uuid.clone()));
            if let Err((call, reason)) = raw_events::register(lib, &set, gpu.handle) {
                tracing::warn!(gpu = gpu.uuid, call, %reason, "Failed to register for the XIDs of a GPU.");
            }
        }
        Ok(Self { session, set, gpus })
    }

    fn is_of(&self, session: &Session) -> bool {
        self.session.number == session.number && self.gpus.len() == session.gpus().len()
    }
}

pub(super) struct NvmlXidWatch {
    sessions: Arc<Sessions>,
    subscription: Option<Subscription>,
}

impl NvmlXidWatch {
    pub(super) fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions, subscription: None }
    }
}

impl XidWatch for NvmlXidWatch {
    fn next(&mut self, timeout: Duration) -> Result<Option<XidEvent>, GpuError> {
        let current = self.sessions.current();
        // The old session is dropped first, because it is shut down once nothing uses it.
        self.subscription.take_if(|old| !current.as_ref().is_some_and(|session| old.is_of(session)));
        let Some(current) = current else {
            std::thread::sleep(timeout);
            return Ok(None);
        };
        let subscription = match &mut self.subscription {
            Some(subscription) => subscription,
            none => none.insert(Subscription::new(current).map_err(on_gpu("this node"))?),
        };
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let waited = raw_events::wait(subscription.session.nvml.lib(), &subscription.set, timeout_ms);
        if let Err((_, Reason::DriverChanged(_))) = &waited {
            self.subscription = None;
        }
        let event = waited.map_err(on_gpu("this node"))?;
        let gpus = self.subscription.iter().flat_map(|subscription| &subscription.gpus);
        let uuid_of =
            |device| gpus.clone().find(|(handle, _)| *handle == device).map(|(_, uuid)| uuid.clone());
        Ok(event.map(|event| XidEvent {
            gpu_uuid: uuid_of(event.device),
            xid: event.xid,
            gpu_instance: event.gpu_instance,
        }))
    }
}
