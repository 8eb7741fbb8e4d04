//! Lifts by the API server.

use std::sync::Arc;
use std::time::Duration;

use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PatchParams;
use kube::{Api, Client};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::events::{self, GateEvent};
use super::lifter::{PatchOutcome, PodPatcher};
use crate::gates::PodRef;

/// An answer that takes longer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Patches on their way at once.
const MOST_AT_ONCE: usize = 32;

/// Patches pods, as long as this process may act.
#[derive(Clone)]
pub(super) struct ApiPatcher {
    client: Client,
    acts: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    events: mpsc::Sender<(PodRef, GateEvent)>,
}

impl ApiPatcher {
    /// Of the server that the client speaks to; `instance` of `controller` tells events.
    pub(super) fn start(
        client: Client,
        controller: &str,
        instance: &str,
        acts: watch::Receiver<bool>,
    ) -> Self {
        let events = events::start(client.clone(), controller, instance);
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
                // It may be busy, and have done it nevertheless.
                408 | 429 | 500.. => PatchOutcome::Unknown(status.message),
                _ => PatchOutcome::Refused(status.message),
            },
            Ok(Err(error)) => PatchOutcome::Unknown(error.to_string()),
            Err(_) => PatchOutcome::Unknown(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
        }
    }

    fn tell(&self, pod: &PodRef, telling: GateEvent) {
        if self.events.try_send((pod.clone(), telling)).is_err() {
            tracing::debug!("An event was dropped: the API server takes them too slowly.");
        }
    }
}
