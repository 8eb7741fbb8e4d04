//! The same input of all requests of a batch, side by side.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{InferRequest, MergeError, Tensor, TensorData, transcode};

/// One input of the batch.
pub(super) struct Column<'a> {
    /// The first request's tensor: name, datatype and parameters are those of all.
    pub(super) first: &'a Tensor,
    /// Shape of the batch.
    pub(super) shape: Cow<'a, [u64]>,
    /// Each request's tensor, in the order of the requests.
    pub(super) members: Vec<&'a Tensor>,
}

/// Brings the inputs of all requests into the order of the first.
pub(super) fn align<'a>(requests: &[&'a InferRequest]) -> Result<Vec<Column<'a>>, MergeError> {
    let Some((first, others)) = requests.split_first() else {
        return Err(MergeError { index: 0, reason: "a batch needs at least one request".into() });
    };
    if first.inputs.is_empty() {
        return Err(MergeError { index: 0, reason: "the request has no inputs that could be read".into() });
    }
    for (at, request) in others.iter().enumerate() {
        if request.key != first.key || request.alone.is_some() {
            return Err(MergeError { index: at + 1, reason: "the request may not share this batch".into() });
        }
    }
    if let (Some(alone), false) = (first.alone, others.is_empty()) {
        return Err(MergeError { index: 0, reason: format!("the request goes alone ({})", alone.as_str()) });
    }
    let rows: u64 = requests.iter().map(|request| request.rows as u64).sum();
    let column = |(position, tensor): (usize, &'a Tensor)| {
        let mut members = Vec::with_capacity(requests.len());
        members.push(tensor);
        for (at, request) in others.iter().enumerate() {
            let same_place = request.inputs.get(position).filter(|other| other.name == tensor.name);
            let member = same_place
                .or_else(|| request.inputs.iter().find(|other| other.name == tensor.name))
                .ok_or_else(|| MergeError {
                    index: at + 1,
                    reason: format!("input '{}' is missing", tensor.name),
                })?;
            members.push(member);
        }
        let shape = if others.is_empty() {
            Cow::Borrowed(&tensor.shape[..])
        } else {
            Cow::Owned(std::iter::once(rows).chain(tensor.shape.iter().skip(1).copied()).collect())
        };
        Ok(Column { first: tensor, shape, members })
    };
    first.inputs.iter().enumerate().map(column).collect()
}

impl Column<'_> {
    /// Each member's elements as raw bytes: its own buffer, or its JSON text transcoded.
    pub(super) fn raw(&self) -> Result<Vec<Bytes>, MergeError> {
        let raw = |(index, member): (usize, &&Tensor)| match &member.data {
            TensorData::Raw(bytes) => Ok(bytes.clone()),
            TensorData::Json { text, .. } => transcode::json_to_raw(text, member.datatype)
                .map_err(|reason| MergeError { index, reason: format!("input '{}': {reason}", member.name) }),
        };
        self.members.iter().enumerate().map(raw).collect()
    }
}
