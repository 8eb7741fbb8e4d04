//! Interface between the monitors and the models that are served. The queues implement it, so that the monitors do not
//! depend on them.

use std::fmt::Debug;
use std::sync::Arc;

use sluice_protocol::{InferRequest, ModelSignature};
use tokio::sync::watch;

use super::slot::Slot;

/// A model that model servers are warmed for, and that takes their slots.
pub trait ServedModel: Debug + Send + Sync + 'static {
    /// Returns the name of the model.
    fn name(&self) -> &Arc<str>;

    /// Returns the number of rows that wait.
    fn queued_rows(&self) -> u64;

    /// Returns when a request last asked for the model, in microseconds of the process's clock; 0 if none has.
    fn asked_us(&self) -> u64;

    /// Returns the time of the process's clock, in microseconds.
    fn now_us(&self) -> u64;

    /// Returns requests of live traffic to warm a model server with; empty if none were kept.
    fn samples(&self) -> Vec<InferRequest>;

    /// Sets the signature from the model's metadata; `None` if that does not describe the tensors.
    fn set_signature(&self, signature: Option<Arc<ModelSignature>>);

    /// Reports the times of warm-up batches: rows and seconds.
    fn warmed(&self, times: Vec<(u32, f64)>);

    /// Gives the model a slot of a warm epoch.
    fn give(&self, slot: Slot);

    /// Reports that some slots may have become void.
    fn slots_changed(&self);
}

/// The set of all models that are served.
pub trait ServedModels: Send + Sync + 'static {
    /// Type of a model.
    type Model: ServedModel;

    /// Subscribes to the list of models; it is sent again when it changes, and when a model is asked for.
    fn subscribe(&self) -> watch::Receiver<Arc<Vec<Arc<Self::Model>>>>;

    /// Sets the number of model servers, ready or not.
    fn set_members(&self, members: usize);

    /// Forgets models that all model servers (`members` of them) say they do not have.
    fn forget_absent(&self, members: usize);
}
