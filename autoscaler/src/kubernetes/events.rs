//! Kubernetes Events about InferenceAutoscalers, through the recorder that all programs share. The status says the same.

use kube::{Client, Resource};
use sluice_config::api::InferenceAutoscaler;
use sluice_process::events::{EventRecorder, KubernetesEvent};
use tokio::sync::watch;

use crate::announcements::{Announcement, Announcer};

/// Maximum number of events that wait for the API server.
const MOST_WAITING: usize = 64;

/// Publishes announcements as Kubernetes Events while this replica leads.
#[derive(Debug, Clone)]
pub(crate) struct ApiEvents(EventRecorder);

impl ApiEvents {
    /// Starts publishing as `instance`, the name of this process.
    pub(crate) fn start(client: Client, instance: &str, leads: watch::Receiver<bool>) -> Self {
        Self(EventRecorder::start(client, "sluice-autoscaler", instance, MOST_WAITING, leads))
    }
}

impl Announcer for ApiEvents {
    fn announce(&self, object: &InferenceAutoscaler, announcement: Announcement) {
        let Announcement { is_warning, reason, action, message } = announcement;
        self.0.record(object.object_ref(&()), KubernetesEvent { is_warning, reason, action, note: message });
    }
}
