//! Reads V1 requests.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::body::{members, value};
use super::{Data, V1Request, join};
use crate::json::items;
use crate::{
    Address, Alone, InferRequest, Limits, MergeKey, ModelSignature, Parameters, ParseError, WireFormat,
    limits,
};

/// Reads a V1 `:predict` request. `signature`: the model's metadata, where it is known; a request by rows that fits
/// it shares batches with V2 requests.
///
/// # Errors
/// Returns [`ParseError`] where the request is malformed (forward it alone) or exceeds `limits` (answer it).
pub fn parse_v1(
    address: &Address,
    body: Bytes,
    limits: &Limits,
    signature: Option<&ModelSignature>,
) -> Result<InferRequest, ParseError> {
    if body.len() > limits.body_bytes {
        return Err(ParseError::too_large(body.len(), limits.body_bytes));
    }
    let read = read(address, &body, limits)?;
    if let Some(signature) = signature
        && let Some(inputs) = join::tensors(&read, signature, limits)
    {
        return Ok(join::assemble(address.target.clone(), inputs, body));
    }
    let (rows, alone) = match rows(&read.data) {
        Ok(rows) => (rows, alone_by_field(&read)),
        Err(alone) => (1, Some(alone)),
    };
    if rows > limits.elements {
        return Err(ParseError::limit(format!("more than {} instances", limits.elements)));
    }
    Ok(InferRequest {
        format: WireFormat::V1,
        key: MergeKey::of_v1(&address.target, &read),
        target: address.target.clone(),
        id: None,
        rows,
        inputs: Vec::new(),
        outputs: Vec::new(),
        parameters: Parameters::new(),
        priority: None,
        timeout_us: None,
        binary_data_output: false,
        alone,
        v1: Some(read),
        body,
        is_verbatim: true,
        header_length: None,
    })
}

/// Reads the body's fields as slices of it.
fn read(address: &Address, body: &Bytes, limits: &Limits) -> Result<V1Request, ParseError> {
    let text = value(body)?;
    if !items::is_object(&text) {
        return Err(ParseError::malformed("not an object"));
    }
    let mut data = None;
    let mut fields: Vec<(String, Bytes)> = Vec::new();
    let mut names = HashSet::new();
    for (name, value) in members(&text) {
        let name = name?;
        if fields.len() > limits.parameters {
            let (most, setting) = (limits.parameters, limits::PARAMETERS);
            return Err(ParseError::limit(format!("more than {most} fields ({setting})")));
        }
        let found = match name.as_str() {
            "instances" if items::is_array(&value) => Data::Rows(value),
            "inputs" if items::is_object(&value) => Data::Columns(columns(&value, limits)?),
            "inputs" => Data::Column(value),
            _ if !names.insert(name.clone()) => {
                return Err(ParseError::malformed(format!("field '{name}' occurs twice")));
            }
            _ => {
                fields.push((name, value));
                continue;
            }
        };
        if data.replace(found).is_some() {
            return Err(ParseError::malformed("more than one of 'instances' and 'inputs'"));
        }
    }
    let data = data.ok_or_else(|| ParseError::malformed("neither an array 'instances' nor 'inputs'"))?;
    if items::depth(&text) > limits.json_depth.saturating_add(2) {
        let limit = limits.json_depth;
        return Err(ParseError::limit(format!("values are nested deeper than the limit of {limit}")));
    }
    fields.sort();
    Ok(V1Request { label: address.label.clone(), data, fields })
}

fn columns(text: &Bytes, limits: &Limits) -> Result<Vec<(String, Bytes)>, ParseError> {
    let mut columns: Vec<(String, Bytes)> = Vec::new();
    let mut names = HashSet::new();
    for (name, value) in members(text) {
        if columns.len() == limits.tensors {
            let (most, setting) = (limits.tensors, limits::TENSORS);
            return Err(ParseError::limit(format!("more than {most} tensors ({setting})")));
        }
        let name = name?;
        if !names.insert(name.clone()) {
            return Err(ParseError::malformed("occurs twice").at(&name));
        }
        columns.push((name, value));
    }
    Ok(columns)
}

/// Returns the number of rows, the items of the outer level, which must be equal in all columns.
fn rows(data: &Data) -> Result<usize, Alone> {
    let count = |text: &Bytes| {
        if items::is_array(text) { Ok(items::items(text).count()) } else { Err(Alone::Scalar) }
    };
    let rows = match data {
        Data::Rows(text) | Data::Column(text) => count(text)?,
        Data::Columns(columns) => {
            let counts = columns.iter().map(|(_, text)| count(text)).collect::<Result<Vec<_>, _>>()?;
            let first = *counts.first().ok_or(Alone::NoInputs)?;
            if counts.iter().any(|count| *count != first) {
                return Err(Alone::UnequalRows);
            }
            first
        }
    };
    if rows == 0 { Err(Alone::ZeroRows) } else { Ok(rows) }
}

/// Returns the first field that forbids a batch, on the outer level or in `parameters`.
fn alone_by_field(request: &V1Request) -> Option<Alone> {
    request.fields.iter().find_map(|(name, text)| {
        if is_or_has_null(text) {
            return Some(Alone::Null);
        }
        if name == "parameters"
            && let Ok(parameters) = serde_json::from_slice::<Parameters>(text)
        {
            return Alone::of_parameters(&parameters);
        }
        let value = serde_json::from_slice(text);
        Alone::of_parameter(name, &value.unwrap_or(crate::Parameter::Bool(true)))
    })
}

/// Returns whether a field is `null` or an object with a member that is `null`.
fn is_or_has_null(text: &[u8]) -> bool {
    text == b"null"
        || serde_json::from_slice::<BTreeMap<String, &RawValue>>(text)
            .is_ok_and(|members| members.values().any(|value| value.get() == "null"))
}
