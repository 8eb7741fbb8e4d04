//! The cluster's side of the program: which InferenceAutoscalers there are, where their status goes, and
//! who is told. What scales is [`crate::platform::kubernetes`].

pub(crate) mod events;
pub(crate) mod objects;
pub(crate) mod status;
