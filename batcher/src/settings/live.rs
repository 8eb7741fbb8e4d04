//! Settings that may change while the process runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Settings;

/// The settings as they are now. Clones see the same ones; whoever needs several that fit together takes
/// [`Live::now`] once.
#[derive(Debug, Clone)]
pub struct Live(Arc<ArcSwap<Settings>>);

impl Live {
    /// Settings that were validated.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// The settings now.
    pub fn now(&self) -> Arc<Settings> {
        self.0.load_full()
    }
}
