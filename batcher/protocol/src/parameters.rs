//! Parameters of requests, inputs and outputs.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use crate::grpc::{InferParameter, infer_parameter::ParameterChoice};

/// Parameters by name, in the order of their names.
pub type Parameters = BTreeMap<String, Parameter>;

/// A parameter's value, the same for JSON and gRPC: a gRPC `uint64` equals the same JSON integer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Parameter {
    /// `true` or `false`.
    Bool(bool),
    /// An integer within the range of i64.
    Int(i64),
    /// An integer beyond the range of i64.
    Uint(u64),
    /// Any other number.
    Double(f64),
    /// A string.
    Text(String),
}

/// Not derived, because an untagged enum would try its variants in turn and create an error for each that fails.
impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParameterVisitor)
    }
}

struct ParameterVisitor;

impl Visitor<'_> for ParameterVisitor {
    type Value = Parameter;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, a number or a bool")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Parameter, E> {
        Ok(Parameter::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Parameter, E> {
        Ok(Parameter::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Parameter, E> {
        Ok(Parameter::from_u64(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Parameter, E> {
        Ok(Parameter::Double(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Parameter, E> {
        Ok(Parameter::Text(value.to_owned()))
    }
}

impl Parameter {
    fn from_u64(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Uint(value), Self::Int)
    }

    /// Returns the value as a non-negative integer; `None` where it is not one.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Int(value) => u64::try_from(value).ok(),
            Self::Uint(value) => Some(value),
            Self::Bool(_) | Self::Double(_) | Self::Text(_) => None,
        }
    }

    /// Returns the value as a bool; `None` where it is not one.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    fn from_grpc(choice: ParameterChoice) -> Self {
        match choice {
            ParameterChoice::BoolParam(value) => Self::Bool(value),
            ParameterChoice::Int64Param(value) => Self::Int(value),
            ParameterChoice::Uint64Param(value) => Self::from_u64(value),
            ParameterChoice::StringParam(value) => Self::Text(value),
            ParameterChoice::DoubleParam(value) => Self::Double(value),
        }
    }

    fn to_grpc(&self) -> InferParameter {
        InferParameter {
            parameter_choice: Some(match self {
                Self::Bool(value) => ParameterChoice::BoolParam(*value),
                Self::Int(value) => ParameterChoice::Int64Param(*value),
                Self::Uint(value) => ParameterChoice::Uint64Param(*value),
                Self::Double(value) => ParameterChoice::DoubleParam(*value),
                Self::Text(value) => ParameterChoice::StringParam(value.clone()),
            }),
        }
    }
}

/// Returns whether any parameter lacks a value, as `null` does in JSON.
pub(crate) fn lacks_values(parameters: &BTreeMap<String, InferParameter>) -> bool {
    parameters.values().any(|parameter| parameter.parameter_choice.is_none())
}

/// Reads the parameters of a gRPC message. One without a value counts as missing.
pub(crate) fn from_grpc(parameters: BTreeMap<String, InferParameter>) -> Parameters {
    let read = |(name, parameter): (String, InferParameter)| {
        parameter.parameter_choice.map(|choice| (name, Parameter::from_grpc(choice)))
    };
    parameters.into_iter().filter_map(read).collect()
}

/// Writes parameters for a gRPC message.
pub(crate) fn to_grpc(parameters: &Parameters) -> BTreeMap<String, InferParameter> {
    parameters.iter().map(|(name, parameter)| (name.clone(), parameter.to_grpc())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_kind_and_others_are_refused() {
        for (text, expected) in [
            ("true", Parameter::Bool(true)),
            ("-1", Parameter::Int(-1)),
            ("9223372036854775807", Parameter::Int(i64::MAX)),
            ("18446744073709551615", Parameter::Uint(u64::MAX)),
            ("1.0", Parameter::Double(1.0)),
            ("18446744073709551616", Parameter::Double(18_446_744_073_709_551_616.0)),
            (r#""a\n""#, Parameter::Text("a\n".into())),
        ] {
            assert_eq!(serde_json::from_str::<Parameter>(text).unwrap(), expected);
        }
        for other in ["null", "[]", "{}", "1e400"] {
            assert!(serde_json::from_str::<Parameter>(other).is_err(), "{other}");
        }
    }
}
