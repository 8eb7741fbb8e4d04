//! Reads a V1 request by rows as V2 tensors, where the model's metadata gives their names and datatypes.

use bytes::Bytes;

use super::body::members;
use super::{Data, V1Request};
use crate::json::{items, layout};
use crate::request::{Parts, ReadRequest};
use crate::tensor::checked_elements;
use crate::{InferRequest, Limits, ModelSignature, Target, Tensor, TensorData, TensorSignature, WireFormat};

/// Signature that a request means if it names none.
const DEFAULT_SIGNATURE: &[u8] = b"\"serving_default\"";

/// Returns the tensors; `None` where the request does not fit the metadata or has fields that V2 lacks: then it stays V1.
pub(super) fn tensors(
    request: &V1Request,
    signature: &ModelSignature,
    limits: &Limits,
) -> Option<Vec<Tensor>> {
    let says_more =
        request.fields.iter().any(|(name, text)| name != "signature_name" || text != DEFAULT_SIGNATURE);
    if says_more || request.label.is_some() || signature.inputs.is_empty() {
        return None;
    }
    let Data::Rows(instances) = &request.data else { return None };
    let first = items::items(instances).next()?;
    if items::is_object(&instances[first]) {
        return by_name(instances, &signature.inputs, limits);
    }
    let [input] = &signature.inputs[..] else { return None };
    Some(vec![tensor(input, instances.clone(), limits)?])
}

/// Reads instances that are objects: each input's values are collected into one array.
fn by_name(instances: &Bytes, inputs: &[TensorSignature], limits: &Limits) -> Option<Vec<Tensor>> {
    let mut columns: Vec<Vec<u8>> = vec![Vec::new(); inputs.len()];
    let mut filled = vec![0usize; inputs.len()];
    for (row, instance) in items::items(instances).enumerate() {
        let instance = instances.slice(instance);
        if !items::is_object(&instance) {
            return None;
        }
        let mut given = 0;
        for (name, value) in members(&instance) {
            let name = name.ok()?;
            let at = inputs.iter().position(|input| input.name == name)?;
            if std::mem::replace(&mut filled[at], row + 1) == row + 1 {
                return None;
            }
            columns[at].push(if row == 0 { b'[' } else { b',' });
            columns[at].extend_from_slice(&value);
            given += 1;
        }
        if given != inputs.len() {
            return None;
        }
    }
    let tensors = inputs.iter().zip(columns).map(|(input, mut column)| {
        column.push(b']');
        tensor(input, column.into(), limits)
    });
    tensors.collect()
}

/// Returns the input with these rows; `None` where they are irregular or do not fit its datatype and shape.
fn tensor(input: &TensorSignature, text: Bytes, limits: &Limits) -> Option<Tensor> {
    input.row_shape()?;
    let shape = items::dimensions(&text);
    if !input.admits(&shape) {
        return None;
    }
    let elements = checked_elements(&shape, limits).ok()?;
    let layout = layout::check(&text, input.datatype, &shape, elements, limits).ok()?;
    Some(Tensor {
        name: input.name.clone(),
        datatype: input.datatype,
        shape,
        parameters: Default::default(),
        data: TensorData::Json { text, layout },
    })
}

/// Creates the request as if the client had sent these tensors in V2.
pub(super) fn assemble(target: Target, inputs: Vec<Tensor>, body: Bytes) -> InferRequest {
    let read = ReadRequest { inputs, ..Default::default() };
    Parts { format: WireFormat::V1, target, read: Some(read), body, header_length: None }.assemble()
}
