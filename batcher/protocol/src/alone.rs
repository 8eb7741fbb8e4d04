//! Why a valid request must not share a batch.

/// Why a request goes to the model server alone, its body untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alone {
    /// It belongs to a sequence (`sequence_id`): order and affinity matter.
    Sequence,
    /// It names shared-memory regions: there is no tensor to merge.
    SharedMemory,
    /// It carries a parameter of the server's own (`triton_…`) whose effect on a batch is unknown.
    ServerParameter,
    /// It carries sampling parameters (seed, temperature, …): its result may depend on its place in a batch.
    Sampling,
    /// It asks for a stream of answers.
    Streaming,
    /// A raw binary request (`Inference-Header-Content-Length: 0`): names and shapes are the server's.
    RawBinary,
    /// It has no inputs.
    NoInputs,
    /// An input has rank 0: it has no rows.
    Scalar,
    /// It has zero rows.
    ZeroRows,
    /// Its inputs have different numbers of rows: dimension 0 is not a batch dimension of all of them.
    UnequalRows,
    /// The same input or output name occurs twice.
    DuplicateName,
    /// It has a field that we do not know and would lose.
    UnknownField,
}

impl Alone {
    /// A short word for metric labels and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::SharedMemory => "shared_memory",
            Self::ServerParameter => "server_parameter",
            Self::Sampling => "sampling",
            Self::Streaming => "streaming",
            Self::RawBinary => "raw_binary",
            Self::NoInputs => "no_inputs",
            Self::Scalar => "scalar",
            Self::ZeroRows => "zero_rows",
            Self::UnequalRows => "unequal_rows",
            Self::DuplicateName => "duplicate_name",
            Self::UnknownField => "unknown_field",
        }
    }
}
