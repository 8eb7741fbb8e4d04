//! Parameters of requests, inputs and outputs.

use std::collections::BTreeMap;

/// Parameters by name, in the order of their names.
pub type Parameters = BTreeMap<String, Parameter>;

/// A parameter's value. JSON's and gRPC's types meet here: a non-negative gRPC `uint64` equals the same JSON integer.
#[derive(Debug, Clone, PartialEq)]
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
