//! InferenceAutoscalers of a cluster: watches them, writes their status, publishes Events about them. Scaling is in
//! [`crate::platform::kubernetes`].

pub(crate) mod events;
pub(crate) mod objects;
pub(crate) mod status;
