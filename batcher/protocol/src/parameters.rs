//! Parameters of requests, inputs and outputs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grpc::{InferParameter, infer_parameter::ParameterChoice};

/// Parameters by name, in the order of their names.
pub type Parameters = BTreeMap<String, Parameter>;

/// A parameter's value. JSON's and gRPC's types meet here: a gRPC `uint64` equals the same JSON integer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    /// `true` or `false`.
    Bool(bool),
    /// An integer of the range of i64.
    Int(i64),
    /// An integer beyond the range of i64.
    Uint(u64),
    /// Any other number.
    Double(f64),
    /// A string.
    Text(String),
}

impl Parameter {
    /// The value as a non-negative integer, where it is one.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Int(value) => u64::try_from(value).ok(),
            Self::Uint(value) => Some(value),
            Self::Bool(_) | Self::Double(_) | Self::Text(_) => None,
        }
    }

    /// The value as a bool, where it is one.
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
            ParameterChoice::Uint64Param(value) => i64::try_from(value).map_or(Self::Uint(value), Self::Int),
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

/// Parameters of a gRPC message. One without a value is one that the client left out.
pub(crate) fn from_grpc(parameters: BTreeMap<String, InferParameter>) -> Parameters {
    let read = |(name, parameter): (String, InferParameter)| {
        parameter.parameter_choice.map(|choice| (name, Parameter::from_grpc(choice)))
    };
    parameters.into_iter().filter_map(read).collect()
}

/// Parameters for a gRPC message.
pub(crate) fn to_grpc(parameters: &Parameters) -> BTreeMap<String, InferParameter> {
    parameters.iter().map(|(name, parameter)| (name.clone(), parameter.to_grpc())).collect()
}
