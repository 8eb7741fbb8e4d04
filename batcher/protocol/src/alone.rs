//! Reasons for which a valid request must not share a batch.

use std::collections::HashSet;

use crate::{Parameter, Parameters, RequestedOutput, Tensor};

/// Reason for which a request is sent to the model server alone, with its body unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alone {
    /// It belongs to a sequence (`sequence_id`): order and affinity matter.
    Sequence,
    /// It names shared-memory regions: there is no tensor to merge.
    SharedMemory,
    /// It has a server-specific parameter (`triton_…`) whose effect on a batch is unknown.
    ServerParameter,
    /// It has sampling parameters (seed, temperature, …): its result may depend on its place in a batch.
    Sampling,
    /// It asks for a stream of responses.
    Streaming,
    /// It is a raw binary request (`Inference-Header-Content-Length: 0`), which names neither inputs nor shapes.
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
    /// It has an unknown field, which a batch would lose.
    UnknownField,
    /// A field or a parameter is `null`: some servers read it as missing, others refuse it, so the server decides.
    Null,
}

impl Alone {
    /// Returns a short word for metric labels and explanations.
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
            Self::Null => "null",
        }
    }
}

/// Request parameters of generative models: with them a result may depend on the request's place in a batch.
const SAMPLING: [&str; 8] = [
    "seed",
    "random_seed",
    "temperature",
    "top_k",
    "top_p",
    "max_tokens",
    "beam_width",
    "repetition_penalty",
];

/// Tensor parameters that say that the data is in shared memory.
const SHARED_MEMORY: [&str; 3] = ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"];

impl Alone {
    /// Returns the first reason found; `None` where the request may be merged.
    pub(crate) fn of(
        parameters: &Parameters,
        inputs: &[Tensor],
        outputs: &[RequestedOutput],
        unknown_field: bool,
    ) -> Option<Self> {
        if unknown_field {
            return Some(Self::UnknownField);
        }
        if let Some(reason) = Self::of_parameters(parameters) {
            return Some(reason);
        }
        let tensor_parameters = inputs.iter().map(|input| &input.parameters);
        let mut tensor_parameters = tensor_parameters.chain(outputs.iter().map(|output| &output.parameters));
        if tensor_parameters.any(|parameters| SHARED_MEMORY.iter().any(|name| parameters.contains_key(*name)))
        {
            return Some(Self::SharedMemory);
        }
        if has_duplicates(inputs.iter().map(|input| &*input.name))
            || has_duplicates(outputs.iter().map(|output| &*output.name))
        {
            return Some(Self::DuplicateName);
        }
        let Some(first) = inputs.first() else { return Some(Self::NoInputs) };
        if inputs.iter().any(|input| input.shape.is_empty()) {
            return Some(Self::Scalar);
        }
        if inputs.iter().any(|input| input.rows() != first.rows()) {
            return Some(Self::UnequalRows);
        }
        (first.rows() == Some(0)).then_some(Self::ZeroRows)
    }

    /// Returns the first reason found among request parameters.
    pub(crate) fn of_parameters(parameters: &Parameters) -> Option<Self> {
        parameters.iter().find_map(|(name, value)| Self::of_parameter(name, value))
    }

    /// Returns the reason that one request parameter is; `None` where it does not forbid merging.
    pub(crate) fn of_parameter(name: &str, value: &Parameter) -> Option<Self> {
        match name {
            "sequence_id" => {
                let none = *value == Parameter::Int(0) || *value == Parameter::Text(String::new());
                (!none).then_some(Self::Sequence)
            }
            "stream" => (value.as_bool() != Some(false)).then_some(Self::Streaming),
            _ if name.starts_with("triton_") => Some(Self::ServerParameter),
            _ if SAMPLING.contains(&name) => Some(Self::Sampling),
            _ => None,
        }
    }
}

fn has_duplicates<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> bool {
    let count = names.len();
    count > 1 && names.collect::<HashSet<_>>().len() < count
}
