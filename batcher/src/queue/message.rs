//! What the owner of a queue is told.

use tokio::sync::oneshot;

use super::Entry;
use crate::upstream::slot::Slot;

/// What has happened to a queue, for its engine.
pub type QueueEvent = sluice_batch_policy::QueueEvent<Box<Entry>, Slot>;

/// A message to the owner of a queue. Their number is bounded by the slots and by the scrapes under way.
#[derive(Debug)]
pub enum Message {
    /// Something for the engine.
    Event(QueueEvent),
    /// A warm slot.
    Slot(Slot),
    /// The settings have changed.
    SettingsChanged,
    /// The gauges are to be set; the sender hears when that is done.
    Refresh(oneshot::Sender<()>),
    /// The model does not exist anywhere, or the process ends: all requests that wait fail.
    Retire,
}

impl From<QueueEvent> for Message {
    fn from(event: QueueEvent) -> Self {
        Self::Event(event)
    }
}
