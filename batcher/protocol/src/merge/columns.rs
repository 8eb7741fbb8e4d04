//! Puts the same input of all requests of a batch side by side.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;

use crate::{BatchRows, InferRequest, MergeError, Tensor, TensorData, transcode};

/// One input of the batch.
#[derive(Debug)]
pub(crate) struct Column<'a> {
    /// The first request's tensor, whose name, datatype and parameters all others share.
    pub(crate) first: &'a Tensor,
    /// Shape of the batch.
    pub(crate) shape: Cow<'a, [u64]>,
    /// Each request's tensor, in the order of the requests; then the last row, once for each row of padding.
    pub(crate) members: Vec<&'a Tensor>,
    /// Number of requests of the batch.
    requests: usize,
}

/// Returns the first request and the others, or an error where they may not all share a batch.
pub(super) fn check_keys<'a, 'r>(
    requests: &'r [&'a InferRequest],
) -> Result<(&'a InferRequest, &'r [&'a InferRequest]), MergeError> {
    let Some((first, others)) = requests.split_first() else {
        return Err(MergeError { index: 0, reason: "a batch needs at least one request".into() });
    };
    for (at, request) in others.iter().enumerate() {
        if request.key != first.key || request.alone.is_some() {
            return Err(MergeError { index: at + 1, reason: "the request may not share this batch".into() });
        }
    }
    if let (Some(alone), false) = (first.alone, others.is_empty()) {
        return Err(MergeError { index: 0, reason: format!("the request goes alone ({})", alone.as_str()) });
    }
    Ok((first, others))
}

/// Brings the inputs of all requests into the order of the first one. `last_row`: the inputs of the row that is repeated as
/// padding; empty where the batch is not padded.
pub(super) fn align<'a>(
    requests: &[&'a InferRequest],
    rows: &BatchRows,
    last_row: &'a [Tensor],
) -> Result<Vec<Column<'a>>, MergeError> {
    let (first, others) = check_keys(requests)?;
    if first.inputs.is_empty() {
        return Err(MergeError { index: 0, reason: "the request has no inputs that could be read".into() });
    }
    let total = rows.total() as u64;
    // The inputs by name of requests that have another order: searching through all inputs for each would take quadratic time.
    let mut by_name: Vec<Option<HashMap<&str, &'a Tensor>>> = vec![None; others.len()];
    let mut fillers: Option<HashMap<&str, &'a Tensor>> = None;
    let column = |(position, tensor): (usize, &'a Tensor)| {
        let mut members = Vec::with_capacity(requests.len());
        members.push(tensor);
        for (at, request) in others.iter().enumerate() {
            let same_place = request.inputs.get(position).filter(|other| other.name == tensor.name);
            let member = same_place
                .or_else(|| {
                    by_name[at].get_or_insert_with(|| names(&request.inputs)).get(&*tensor.name).copied()
                })
                .ok_or_else(|| MergeError {
                    index: at + 1,
                    reason: format!("input '{}' is missing", tensor.name),
                })?;
            members.push(member);
        }
        if rows.padding > 0
            && let Some(&filler) = fillers.get_or_insert_with(|| names(last_row)).get(&*tensor.name)
        {
            members.extend(std::iter::repeat_n(filler, rows.padding));
        }
        let shape = if members.len() == 1 {
            Cow::Borrowed(&tensor.shape[..])
        } else {
            Cow::Owned(std::iter::once(total).chain(tensor.shape.iter().skip(1).copied()).collect())
        };
        Ok(Column { first: tensor, shape, members, requests: requests.len() })
    };
    first.inputs.iter().enumerate().map(column).collect()
}

fn names(tensors: &[Tensor]) -> HashMap<&str, &Tensor> {
    tensors.iter().map(|tensor| (&*tensor.name, tensor)).collect()
}

impl Column<'_> {
    /// Returns the index of the request that a member belongs to; padding belongs to the last request.
    pub(crate) fn blame(&self, member: usize) -> usize {
        member.min(self.requests - 1)
    }

    /// Returns each member's elements as raw bytes: its own buffer, or its transcoded JSON text.
    pub(crate) fn raw(&self) -> Result<Vec<Bytes>, MergeError> {
        let raw = |(index, member): (usize, &&Tensor)| match &member.data {
            TensorData::Raw(bytes) => Ok(bytes.clone()),
            TensorData::Json { text, .. } => {
                transcode::json_to_raw(text, member.datatype).map_err(|reason| {
                    let reason = format!("input '{}': {reason}", member.name);
                    MergeError { index: self.blame(index), reason }
                })
            }
        };
        self.members.iter().enumerate().map(raw).collect()
    }
}
