//! Kubernetes Events, published by a task of its own: a slow API server must not slow the program's work down, so
//! events that it cannot take in time are dropped.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::{mpsc, watch};

/// Maximum length of a note in bytes. The API server refuses longer ones.
const MOST_NOTE_BYTES: usize = 1000;

/// Publishes Kubernetes Events from a background task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<(ObjectReference, KubernetesEvent)>,
}

/// One Kubernetes Event, without the object that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesEvent {
    /// Whether its type is `Warning`, not `Normal`.
    pub is_warning: bool,
    /// Reason, one word in CamelCase.
    pub reason: String,
    /// What the program did, or failed to do, one word in CamelCase.
    pub action: String,
    /// Text for people. A longer one than the API server takes is cut.
    pub note: String,
}

impl EventRecorder {
    /// Starts the background task, which ends with the last clone of the recorder. Up to `capacity` events wait for the
    /// API server. `controller` and `instance` name this program and this process. While `is_leader` is false, events
    /// are discarded.
    pub fn start(
        client: Client,
        controller: &str,
        instance: &str,
        capacity: usize,
        is_leader: watch::Receiver<bool>,
    ) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: Some(instance.to_owned()) };
        let recorder = Recorder::new(client, reporter);
        let (queue, mut waiting) = mpsc::channel::<(ObjectReference, KubernetesEvent)>(capacity);
        tokio::spawn(async move {
            while let Some((object, event)) = waiting.recv().await {
                if !*is_leader.borrow() {
                    continue;
                }
                if let Err(error) = recorder.publish(&published(event), &object).await {
                    let (kind, name) = (object.kind.as_deref(), object.name.as_deref());
                    tracing::warn!(%error, kind, name, "Failed to publish a Kubernetes Event.");
                }
            }
        });
        Self { queue }
    }

    /// Publishes an event about `object`, unless too many are waiting.
    pub fn record(&self, object: ObjectReference, event: KubernetesEvent) {
        if self.queue.try_send((object, event)).is_err() {
            tracing::warn!("A Kubernetes Event was dropped: the API server takes them too slowly.");
        }
    }
}

fn published(event: KubernetesEvent) -> Event {
    Event {
        type_: if event.is_warning { EventType::Warning } else { EventType::Normal },
        reason: event.reason,
        note: Some(shortened(event.note)),
        action: event.action,
        secondary: None,
    }
}

/// Cuts a note at a character boundary, and marks the cut.
fn shortened(mut note: String) -> String {
    if note.len() > MOST_NOTE_BYTES {
        let end = (0..=MOST_NOTE_BYTES).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let cut = shortened("é".repeat(MOST_NOTE_BYTES));
        assert!(cut.len() <= MOST_NOTE_BYTES + '…'.len_utf8() && cut.ends_with("é…"), "{}", cut.len());
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
