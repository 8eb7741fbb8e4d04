//! The wire formats in which an inference is asked for and answered.

/// A wire format: of a client's request and its response, or of what is sent to a model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireFormat {
    /// V2 REST, JSON alone.
    Json,
    /// V2 REST with the binary tensor extension (`Inference-Header-Content-Length`). A model server that reads it reads
    /// [`WireFormat::Json`] too.
    Binary,
    /// gRPC `ModelInfer`; sent to a model server with `raw_input_contents`.
    Grpc,
    /// V1 REST `:predict`.
    V1,
}

impl WireFormat {
    /// All wire formats, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Json, Self::Binary, Self::Grpc, Self::V1];

    /// Returns its name in metric labels and journals: `json`, `binary`, `grpc` or `v1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Binary => "binary",
            Self::Grpc => "grpc",
            Self::V1 => "v1",
        }
    }
}
