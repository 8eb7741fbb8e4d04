//! Settings that may change while the process runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Settings;

/// The settings as they are now. Clones see the same ones; whoever needs several that fit together takes
/// [`Live::now`] once.
#[derive(Debug, Clone)]
pub struct Live {
    /// Read for every request, hence without a lock.
    now: Arc<ArcSwap<Settings>>,
    changed: watch::Sender<()>,
}

impl Live {
    /// Settings that were validated.
    pub fn new(settings: Settings) -> Self {
        Self { now: Arc::new(ArcSwap::from_pointee(settings)), changed: watch::Sender::default() }
    }

    /// The settings now.
    pub fn now(&self) -> Arc<Settings> {
        self.now.load_full()
    }

    /// Marked whenever the settings change.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn set(&self, settings: Settings) {
        self.now.store(Arc::new(settings));
        self.changed.send_replace(());
    }
}
