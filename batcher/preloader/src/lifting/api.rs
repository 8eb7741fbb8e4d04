//! Lifts gates and publishes Kubernetes Events through the API server.

use std::sync::Arc;
use std::time::Duration;

use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PatchParams;
use kube::{Api, Client};
use sluice_process::events::EventRecorder;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::events::{GateEvent, published, reference};
use super::lifter::{PatchOutcome, PodPatcher};
use crate::gates::PodRef;

/// Time limit of one patch.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of patches in flight.
const MOST_AT_ONCE: usize = 32;
/// Maximum number of events that wait for the API server.
const MOST_EVENTS: usize = 1024;

/// Patches pods while this process may act.
#[derive(Clone)]
pub(super) struct ApiPatcher {
    client: Client,
    acts: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    events: EventRecorder,
}

impl ApiPatcher {
    /// Creates a patcher for the API server of `client`. Events name `controller` and its `instance` as their source.
    pub(super) fn start(
        client: Client,
        controller: &str,
        instance: &str,
        acts: watch::Receiver<bool>,
    ) -> Self {
        // What was done is published by a former leader too.
        let always = watch::channel(true).1;
        let events = EventRecorder::start(client.clone(), controller, instance, MOST_EVENTS, always);
        Self { client, acts, places: Arc::new(Semaphore::new(MOST_AT_ONCE)), events }
    }
}

impl PodPatcher for ApiPatcher {
    async fn lift(&self, pod: PodRef, patch: Patch) -> PatchOutcome {
        let Ok(_place) = self.places.acquire().await else { return PatchOutcome::NotSent };
        if !*self.acts.borrow() {
            return PatchOutcome::NotSent;
        }
        let pods = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace);
        let patch = kube::api::Patch::Json::<()>(patch);
        let params = PatchParams::default();
        let answer = pods.patch(&pod.name, &params, &patch);
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(_)) => PatchOutcome::Lifted,
            Ok(Err(kube::Error::Api(status))) => match status.code {
                404 => PatchOutcome::Gone,
                // The server may be busy and have applied the patch nevertheless.
                408 | 429 | 500.. => PatchOutcome::Unknown(status.message),
                _ => PatchOutcome::Refused(status.message),
            },
            Ok(Err(error)) => PatchOutcome::Unknown(error.to_string()),
            Err(_) => PatchOutcome::Unknown(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
        }
    }

    fn publish(&self, pod: &PodRef, event: GateEvent) {
        self.events.record(reference(pod), published(event));
    }
}
