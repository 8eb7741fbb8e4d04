//! Events about gated pods, told by a task of its own: a slow API server must not slow lifts down, so what it
//! cannot take in time is dropped.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::gates::{PodRef, Why};

/// Events that may wait.
const MOST_WAITING: usize = 1024;
/// The API server refuses longer notes.
const MOST_NOTE_BYTES: usize = 1000;

/// What is told about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GateEvent {
    /// Its gate stays, because of this.
    Waits(String),
    /// Its gate is gone.
    Lifted(Why, String),
    /// Its gate should be gone, but this is in the way.
    Refused(String),
}

/// Starts the task; it ends with the last sender. `instance`: this process.
pub(super) fn start(client: Client, controller: &str, instance: &str) -> mpsc::Sender<(PodRef, GateEvent)> {
    let reporter = Reporter { controller: controller.to_owned(), instance: Some(instance.to_owned()) };
    let recorder = Recorder::new(client, reporter);
    let (sender, mut told) = mpsc::channel(MOST_WAITING);
    tokio::spawn(async move {
        while let Some((pod, telling)) = told.recv().await {
            if let Err(error) = recorder.publish(&event(telling), &reference(&pod)).await {
                tracing::debug!(%error, pod = pod.name, "An event could not be told.");
            }
        }
    });
    sender
}

fn event(telling: GateEvent) -> Event {
    let (type_, reason, mut note) = match telling {
        GateEvent::Waits(because) => (EventType::Normal, "GateWaits", format!("not placed yet: {because}")),
        GateEvent::Lifted(Why::Deadline, because) => {
            (EventType::Warning, "GateFailedOpen", format!("lifted without a slice of its own: {because}"))
        }
        GateEvent::Lifted(_, because) => (EventType::Normal, "GateLifted", because),
        GateEvent::Refused(because) => {
            (EventType::Warning, "GateLiftRefused", format!("the gate stays; tried again soon: {because}"))
        }
    };
    if note.len() > MOST_NOTE_BYTES {
        let end = (0..=MOST_NOTE_BYTES).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    let action = "Lift".to_owned();
    Event { type_, reason: reason.to_owned(), note: Some(note), action, secondary: None }
}

fn reference(pod: &PodRef) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}
