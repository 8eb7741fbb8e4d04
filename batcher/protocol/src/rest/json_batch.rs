//! Writes a batch as V2 JSON: texts are joined and numbers are never parsed; raw tensors are printed as text.

use crate::chunks::Chunks;
use crate::json::{lexer, write};
use crate::merge::Column;
use crate::wire_protocol::{Batch, BatchBody};
use crate::{JsonLayout, MergeError, Tensor, TensorData, transcode};

pub(super) fn write(batch: &Batch<'_>) -> Result<BatchBody, MergeError> {
    let Batch { first, id, columns } = *batch;
    let mut chunks = Chunks::default();
    write::opening(&mut chunks.open, id);
    chunks.copy(b"\"inputs\":[");
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            chunks.copy(b",");
        }
        write::tensor_head(&mut chunks.open, column.first, &column.shape);
        write::parameters(&mut chunks.open, &column.first.parameters, &[]);
        chunks.copy(b",\"data\":");
        data(&mut chunks, column)?;
        chunks.copy(b"}");
    }
    chunks.copy(b"]");
    write::parameters(&mut chunks.open, &first.parameters, &[]);
    for (at, output) in first.outputs.iter().enumerate() {
        chunks.copy(if at == 0 { b",\"outputs\":[" } else { b"," });
        chunks.copy(b"{\"name\":");
        write::string(&mut chunks.open, &output.name);
        write::parameters(&mut chunks.open, &output.parameters, &[]);
        chunks.copy(b"}");
    }
    if !first.outputs.is_empty() {
        chunks.copy(b"]");
    }
    chunks.copy(b"}");
    Ok(BatchBody { chunks, header_length: None, content_type: "application/json" })
}

/// Writes the array of one input: the members' items one after the other. Where layouts differ, all become flat.
fn data(chunks: &mut Chunks, column: &Column<'_>) -> Result<(), MergeError> {
    if let [Tensor { data: TensorData::Json { text, .. }, .. }] = column.members[..] {
        chunks.share(text);
        return Ok(());
    }
    let is_nested =
        |member: &&Tensor| matches!(member.data, TensorData::Json { layout: JsonLayout::Nested, .. });
    let nested = column.members.iter().all(is_nested);
    chunks.copy(b"[");
    let mut separator: &[u8] = b"";
    for (index, member) in column.members.iter().enumerate() {
        if member.elements() == 0 && !nested {
            continue;
        }
        chunks.copy(separator);
        separator = b",";
        match &member.data {
            TensorData::Json { text, layout } if nested || *layout == JsonLayout::Flat => {
                chunks.share(&text.slice(lexer::inner_range(text)));
            }
            TensorData::Json { text, .. } => flatten(&mut chunks.open, text),
            TensorData::Raw(raw) => {
                transcode::raw_to_json(raw, member.datatype, &mut chunks.open).map_err(|reason| {
                    let reason = format!("input '{}': {reason}", member.name);
                    MergeError { index: column.blame(index), reason }
                })?
            }
        }
    }
    chunks.copy(b"]");
    Ok(())
}

/// Appends the scalars of a nested array, in row-major order.
fn flatten(out: &mut Vec<u8>, text: &[u8]) {
    for (at, scalar) in lexer::scalars(text).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(scalar);
    }
}
