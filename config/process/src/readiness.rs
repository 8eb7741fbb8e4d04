//! Whether a process is ready, and if not, why.

use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the tasks that know and the admin port that tells. Starts as not ready.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<Result<(), String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Err("starting".to_owned()))))
    }
}

impl Readiness {
    /// From now on ready.
    pub fn set_ready(&self) {
        self.set(Ok(()));
    }

    /// From now on not ready, for a reason that a person can act on.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    /// `Ok` when ready, else the reason.
    ///
    /// # Errors
    /// The reason why the process is not ready.
    pub fn get(&self) -> Result<(), String> {
        // A panic elsewhere cannot leave a half-written value: it is replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, value: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}
