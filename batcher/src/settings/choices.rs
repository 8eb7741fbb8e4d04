//! Settings with a few values each.

use serde::{Deserialize, Serialize};

/// Where the batcher stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Beside one model server.
    #[default]
    Sidecar,
    /// In front of several model servers, whose number may be zero and may change.
    Gateway,
}

/// In which form batches are sent to the model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FormSetting {
    /// Binary where `GET /v2` lists the extension `binary_tensor_data`, else JSON; gRPC where the port answers no
    /// HTTP/1.1 or only a gRPC address is given.
    #[default]
    Auto,
    /// V2 REST, JSON alone.
    Json,
    /// V2 REST with the binary tensor extension.
    Binary,
    /// gRPC.
    Grpc,
}

/// Whether dimension 0 is the batch dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Batching {
    /// Yes where the model's metadata says so: all inputs have -1 first.
    #[default]
    Auto,
    /// Yes, whatever the metadata says.
    On,
    /// No: requests go to the model server one by one.
    Off,
}

/// What is done with a batch of a size that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// It is made smaller.
    #[default]
    Off,
    /// It may be filled up by repeating its last row, where the learned curve says that this is cheaper.
    Repeat,
}

/// Whether requests may wait for a larger batch although a slot is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Deferral {
    /// They may not.
    #[default]
    Off,
    /// With several slots, where the learned curve says that it pays.
    Auto,
}

/// Whether requests to servers that batch by themselves are let in by a learned limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Streaming {
    /// Those to OpenAI's chat completions, completions and responses, and to `generate` and `generate_stream`.
    #[default]
    Auto,
    /// None: they pass through as they come.
    Off,
}

/// Where warm-up bodies come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Warmup {
    /// Zeros of the shapes in the model's metadata (or `warmupBodies` where a model is named there).
    #[default]
    Metadata,
    /// The same, and one request of each shape that live traffic has brought: kept in memory for the next epoch, and in
    /// `warmupBodies` for the next process.
    Recorded,
    /// None: the barrier opens as soon as the model server is ready.
    Off,
}

/// What becomes of requests while no model server is warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum WhileCold {
    /// They are held, at most for `holdMs`.
    #[default]
    Hold,
    /// Those that arrive are refused at once (503), so that clients go elsewhere. What was admitted before is held.
    Reject,
}

/// Between whom the slots of a model server are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
#[value(rename_all = "camelCase")]
pub enum SlotSharing {
    /// All models of a model server share its slots, fairly: they share its device.
    #[default]
    Shared,
    /// Each model has as many slots of its own.
    PerModel,
}

/// Which requests the access log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogSetting {
    /// None.
    #[default]
    Off,
    /// Those that did not end well.
    Errors,
    /// All of them (of those that ended well a share of `accessLogSample`).
    All,
}

/// What becomes of requests that control a model server: that load and unload models, register shared memory, change
/// trace and log settings, put it to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ControlPaths {
    /// They are refused (403): who may ask a model need not be allowed to unload it.
    #[default]
    Refuse,
    /// They pass through like others.
    Allow,
}
