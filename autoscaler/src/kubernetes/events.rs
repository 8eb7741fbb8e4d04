//! Events about InferenceAutoscalers (events.k8s.io), told by a task of its own: a slow API server must not
//! slow decisions down, so what it cannot take in time is dropped. The status says the same.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use sluice_config::api::InferenceAutoscaler;
use tokio::sync::{mpsc, watch};

use crate::announcements::{Announcement, Announcer};

/// Events that may wait.
const MOST_WAITING: usize = 64;
/// The API server refuses longer notes.
const MOST_NOTE_BYTES: usize = 1000;

/// Who tells.
#[derive(Debug, Clone)]
pub(crate) struct ApiEvents {
    waiting: mpsc::Sender<(ObjectReference, Announcement)>,
}

impl ApiEvents {
    /// Starts the task; it ends with the last clone of what is returned. `instance`: this process.
    pub(crate) fn start(client: Client, instance: &str, leads: watch::Receiver<bool>) -> Self {
        let reporter =
            Reporter { controller: "sluice-autoscaler".to_owned(), instance: Some(instance.to_owned()) };
        let recorder = Recorder::new(client, reporter);
        let (waiting, mut told) = mpsc::channel::<(ObjectReference, Announcement)>(MOST_WAITING);
        tokio::spawn(async move {
            while let Some((reference, announcement)) = told.recv().await {
                if !*leads.borrow() {
                    continue;
                }
                if let Err(error) = recorder.publish(&event(announcement), &reference).await {
                    tracing::warn!(%error, "An event could not be told.");
                }
            }
        });
        Self { waiting }
    }
}

impl Announcer for ApiEvents {
    fn announce(&self, object: &InferenceAutoscaler, announcement: Announcement) {
        if self.waiting.try_send((object.object_ref(&()), announcement)).is_err() {
            tracing::warn!("An event was dropped: the API server takes them too slowly.");
        }
    }
}

fn event(announcement: Announcement) -> Event {
    let mut note = announcement.message;
    if note.len() > MOST_NOTE_BYTES {
        let end = (0..=MOST_NOTE_BYTES).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    Event {
        type_: if announcement.is_warning { EventType::Warning } else { EventType::Normal },
        reason: announcement.reason,
        note: Some(note),
        action: announcement.action,
        secondary: None,
    }
}
