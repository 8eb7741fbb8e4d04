//! The wire formats of inferences, and the table of their protocols.

use crate::{Address, WireProtocol, grpc, rest, v1};

/// A wire format: of a client's request and its response, or of a batch to a model server and its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireFormat {
    /// V2 REST, JSON alone.
    Json,
    /// V2 REST with the binary tensor extension (`Inference-Header-Content-Length`). A model server that reads it reads
    /// [`WireFormat::Json`] too.
    Binary,
    /// gRPC `ModelInfer`; batches are sent with `raw_input_contents`.
    Grpc,
    /// V1 REST `:predict`.
    V1,
}

impl WireFormat {
    /// All wire formats, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Json, Self::Binary, Self::Grpc, Self::V1];

    /// Returns the protocol of this wire format. Nothing else tells wire formats apart.
    pub fn protocol(self) -> &'static dyn WireProtocol {
        match self {
            Self::Json => &rest::JSON,
            Self::Binary => &rest::BINARY,
            Self::Grpc => &grpc::Grpc,
            Self::V1 => &v1::V1,
        }
    }

    /// Returns the name in metric labels and journals: `json`, `binary`, `grpc` or `v1`.
    pub fn as_str(self) -> &'static str {
        self.protocol().name()
    }

    /// Returns the wire format of an inference that is posted to a URL path (without its query), and what the path addresses.
    /// Where several wire formats share a path, it is the first of [`WireFormat::ALL`]; see
    /// [`WireProtocol::with_header_length`]. `None` where the path is not that of an inference.
    pub fn of_path(path: &str) -> Option<(Self, Address)> {
        Self::ALL.into_iter().find_map(|format| Some((format, format.protocol().read_path(path)?)))
    }
}
