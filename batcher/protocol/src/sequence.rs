//! Steps of sequences: requests to models that keep state from one request to the next (Triton's `sequence_id`,
//! `sequence_start` and `sequence_end`).

use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;

use crate::{InferRequest, Parameter, Parameters};

/// Name of the parameter that makes a request a step.
const ID: &str = "sequence_id";

/// A request's step in a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceStep {
    /// Id of the sequence.
    pub id: SequenceId,
    /// Whether it is the first step.
    pub starts: bool,
    /// Whether it is the last step.
    pub ends: bool,
}

/// Id of a sequence. A number and a string of its digits are different ids, as in Triton.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SequenceId {
    /// An integer.
    Number(i128),
    /// Any other number, by the bits of its f64: some servers may accept it.
    Double(u64),
    /// A string.
    Text(String),
}

impl std::fmt::Display for SequenceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Double(bits) => write!(f, "{}", f64::from_bits(*bits)),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl SequenceId {
    /// Returns the bytes of a string; 0 for a number.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Number(_) | Self::Double(_) => 0,
        }
    }

    /// Reads a `sequence_id`; `None` for 0, the empty string and bools, which mean that there is no sequence.
    fn of(parameter: &Parameter) -> Option<Self> {
        match parameter {
            Parameter::Int(0) | Parameter::Bool(_) => None,
            Parameter::Int(number) => Some(Self::Number((*number).into())),
            Parameter::Uint(number) => Some(Self::Number((*number).into())),
            Parameter::Double(number) => Some(Self::Double(number.to_bits())),
            Parameter::Text(text) if text.is_empty() => None,
            Parameter::Text(text) => Some(Self::Text(text.clone())),
        }
    }
}

impl SequenceStep {
    /// Reads request parameters; `None` where the request belongs to no sequence. A flag that is not a bool counts as false: a
    /// server that reads it as true sees a start where this step has none.
    pub(crate) fn of(parameters: &Parameters) -> Option<Self> {
        let id = SequenceId::of(parameters.get(ID)?)?;
        let flag = |name: &str| parameters.get(name).and_then(Parameter::as_bool).unwrap_or(false);
        Some(Self { id, starts: flag("sequence_start"), ends: flag("sequence_end") })
    }

    /// Finds the step in the JSON of a request that could not be parsed here but that its model server may understand; `None`
    /// where the request is no step of a sequence.
    pub fn of_unread(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Unread {
            parameters: serde_json::Map<String, Value>,
        }
        memmem::find(json, ID.as_bytes())?;
        let Unread { parameters } = serde_json::from_slice(json).ok()?;
        let parameter = |(name, value)| Some((name, serde_json::from_value::<Parameter>(value).ok()?));
        Self::of(&parameters.into_iter().filter_map(parameter).collect())
    }
}

impl InferRequest {
    /// Returns the step that this request is; `None` where it belongs to no sequence.
    pub fn sequence_step(&self) -> Option<SequenceStep> {
        SequenceStep::of(&self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Option<SequenceStep> {
        SequenceStep::of_unread(format!(r#"{{"parameters":{json}}}"#).as_bytes())
    }

    #[test]
    fn a_sequence_has_a_number_or_a_string_for_a_name() {
        let id = |json: &str| of(json).map(|step| step.id);
        assert_eq!(id(r#"{"sequence_id":7}"#), Some(SequenceId::Number(7)));
        assert_eq!(id(r#"{"sequence_id":18446744073709551615}"#), Some(SequenceId::Number(u64::MAX.into())));
        assert_eq!(id(r#"{"sequence_id":"7"}"#), Some(SequenceId::Text("7".into())));
        assert_eq!(id(r#"{"sequence_id":7.5}"#).unwrap().to_string(), "7.5");
        for none in [r#"{"sequence_id":0}"#, r#"{"sequence_id":""}"#, r#"{"sequence_id":null}"#, "{}", "[]"] {
            assert_eq!(id(none), None, "{none}");
        }
    }

    #[test]
    fn only_true_is_a_flag() {
        let flags = |json: &str| of(json).map(|step| (step.starts, step.ends));
        assert_eq!(flags(r#"{"sequence_id":1,"sequence_start":true}"#), Some((true, false)));
        assert_eq!(
            flags(r#"{"sequence_id":1,"sequence_start":1,"sequence_end":"true"}"#),
            Some((false, false))
        );
        assert_eq!(flags(r#"{"sequence_end":true,"sequence_id":1,"other":null}"#), Some((false, true)));
    }

    #[test]
    fn what_is_no_request_belongs_to_no_sequence() {
        for body in [&b""[..], b"sequence_id", b"{\"sequence_id\":1}", b"{\"parameters\":{\"sequence_id\":1}"]
        {
            assert_eq!(SequenceStep::of_unread(body), None);
        }
    }
}
