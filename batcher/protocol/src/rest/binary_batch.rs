//! Writes a batch as V2 binary: one JSON header, then the clients' own buffers.

use crate::chunks::Chunks;
use crate::json::write;
use crate::merge::Column;
use crate::wire_protocol::{Batch, BatchBody};
use crate::{MergeError, Parameter};

pub(super) fn write(batch: &Batch<'_>) -> Result<BatchBody, MergeError> {
    let Batch { first, id, columns } = *batch;
    let raw = columns.iter().map(Column::raw).collect::<Result<Vec<_>, _>>()?;
    let mut chunks = Chunks::default();
    write::opening(&mut chunks.open, id);
    chunks.copy(b"\"inputs\":[");
    for (at, (column, raw)) in columns.iter().zip(&raw).enumerate() {
        if at > 0 {
            chunks.copy(b",");
        }
        let bytes: usize = raw.iter().map(bytes::Bytes::len).sum();
        let size = Parameter::Uint(bytes as u64);
        write::tensor_head(&mut chunks.open, column.first, &column.shape);
        write::parameters(&mut chunks.open, &column.first.parameters, &[("binary_data_size", size)]);
        chunks.copy(b"}");
    }
    chunks.copy(b"]");
    write::parameters(&mut chunks.open, &first.parameters, &[("binary_data_output", Parameter::Bool(true))]);
    for (at, output) in first.outputs.iter().enumerate() {
        chunks.copy(if at == 0 { b",\"outputs\":[" } else { b"," });
        chunks.copy(b"{\"name\":");
        write::string(&mut chunks.open, &output.name);
        write::parameters(&mut chunks.open, &output.parameters, &[("binary_data", Parameter::Bool(true))]);
        chunks.copy(b"}");
    }
    if !first.outputs.is_empty() {
        chunks.copy(b"]");
    }
    chunks.copy(b"}");
    let header_length = Some(chunks.bytes());
    for piece in raw.iter().flatten() {
        chunks.share(piece);
    }
    Ok(BatchBody { chunks, header_length, content_type: "application/octet-stream" })
}
