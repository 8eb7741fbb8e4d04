//! What a monitor has to know of the models that are served, and to whom it hands their slots on. Queues implement it;
//! nothing here knows a queue.

use std::fmt::Debug;
use std::sync::Arc;

use sluice_protocol::{InferRequest, ModelSignature};
use tokio::sync::watch;

use super::slot::Slot;

/// A model that model servers are to be warm for, and whoever takes its slots.
pub trait ServedModel: Debug + Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &Arc<str>;

    /// Rows that wait for it.
    fn queued_rows(&self) -> u64;

    /// When somebody asked for it last (microseconds of the process's clock); 0: nobody has.
    fn asked_us(&self) -> u64;

    /// Now, by the process's clock, in microseconds.
    fn now_us(&self) -> u64;

    /// Requests of live traffic to warm a model server with; empty where none were kept.
    fn samples(&self) -> Vec<InferRequest>;

    /// Takes in what the model's metadata says; `None` where it says nothing of its tensors.
    fn set_signature(&self, signature: Option<Arc<ModelSignature>>);

    /// Takes in the times of warm-up batches: rows and seconds.
    fn warmed(&self, times: Vec<(u32, f64)>);

    /// Takes a slot of a warm epoch.
    fn give(&self, slot: Slot);

    /// Hears that some slots may have become void.
    fn slots_changed(&self);
}

/// All models.
pub trait ServedModels: Send + Sync + 'static {
    /// One of them.
    type Model: ServedModel;

    /// All of them, now and whenever there is another one or one is asked for.
    fn subscribe(&self) -> watch::Receiver<Arc<Vec<Arc<Self::Model>>>>;

    /// Hears how many model servers there are, ready or not.
    fn set_members(&self, members: usize);

    /// Forgets models that so many model servers say they do not have: all that there are.
    fn forget_absent(&self, members: usize);
}
