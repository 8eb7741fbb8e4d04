//! Writes a batch of V1 requests: their texts are joined, and nothing is parsed.

use bytes::Bytes;

use super::{Data, V1Request};
use crate::chunks::Chunks;
use crate::json::{items, lexer, write as text};
use crate::wire_protocol::BatchBody;
use crate::{BatchRows, InferRequest, MergeError};

/// Writes the batch. All requests have the same key.
pub(super) fn write(requests: &[&InferRequest], rows: &BatchRows) -> Result<BatchBody, MergeError> {
    let missing = |index| MergeError { index, reason: "the request is no V1 request of this kind".into() };
    let members: Vec<&V1Request> = requests
        .iter()
        .enumerate()
        .map(|(index, request)| request.v1.as_ref().ok_or_else(|| missing(index)))
        .collect::<Result<_, _>>()?;
    let Some(first) = members.first() else { return Err(missing(0)) };

    let mut chunks = Chunks::default();
    chunks.copy(b"{");
    for (name, value) in &first.fields {
        text::string(&mut chunks.open, name);
        chunks.copy(b":");
        chunks.share(value);
        chunks.copy(b",");
    }
    text::string(&mut chunks.open, first.data.field());
    chunks.copy(b":");
    match &first.data {
        Data::Rows(_) | Data::Column(_) => {
            let arrays = members.iter().enumerate().map(|(index, member)| match &member.data {
                Data::Rows(array) | Data::Column(array) => Ok(array),
                Data::Columns(_) => Err(missing(index)),
            });
            splice(&mut chunks, &arrays.collect::<Result<Vec<_>, _>>()?, rows.padding);
        }
        Data::Columns(columns) => {
            chunks.copy(b"{");
            for (at, (name, _)) in columns.iter().enumerate() {
                if at > 0 {
                    chunks.copy(b",");
                }
                text::string(&mut chunks.open, name);
                chunks.copy(b":");
                let arrays = members.iter().enumerate().map(|(index, member)| {
                    let Data::Columns(columns) = &member.data else { return Err(missing(index)) };
                    let column = columns.iter().find(|(other, _)| other == name);
                    column.map(|(_, array)| array).ok_or_else(|| missing(index))
                });
                splice(&mut chunks, &arrays.collect::<Result<Vec<_>, _>>()?, rows.padding);
            }
            chunks.copy(b"}");
        }
    }
    chunks.copy(b"}");
    Ok(BatchBody { chunks, header_length: None, content_type: "application/json" })
}

/// Writes one array of the items of all arrays, with the last item repeated `padding` times more.
fn splice(chunks: &mut Chunks, arrays: &[&Bytes], padding: usize) {
    if let ([array], 0) = (arrays, padding) {
        return chunks.share(array);
    }
    chunks.copy(b"[");
    for (at, array) in arrays.iter().enumerate() {
        if at > 0 {
            chunks.copy(b",");
        }
        chunks.share(&array.slice(lexer::inner_range(array)));
    }
    let last = arrays.last().and_then(|array| items::items(array).last().map(|item| array.slice(item)));
    for item in std::iter::repeat_n(last, padding).flatten() {
        chunks.copy(b",");
        chunks.share(&item);
    }
    chunks.copy(b"]");
}
