//! Cuts one response by rows and writes each client's part in its own wire format.

mod rows;

use bytes::Bytes;

use crate::{BatchRows, InferRequest, InferResponse, PartError, SplitError, Tensor, WireFormat};

/// One client's part of a response (HTTP status 200, gRPC status 0).
#[derive(Debug, Clone)]
pub struct ResponsePart {
    /// Wire format of the client.
    pub format: WireFormat,
    /// Value of `Inference-Header-Content-Length`; `None` where no output is raw.
    pub header_length: Option<usize>,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// The body, for a vectored write. gRPC: with the 5-byte prefix.
    pub chunks: Vec<Bytes>,
    /// Sum of the chunks' lengths.
    pub body_bytes: usize,
}

/// Splits a response by rows: one part per request, in their order. `requests` and `rows` are those of the
/// batch ([`crate::Merged::rows`]). Each part has its client's wire format and id; model name, version and parameters
/// are the model server's. A client that selected outputs gets only those, even where the model server sent more.
///
/// JSON clients get NaN and infinities as the bare words `NaN`, `Infinity` and `-Infinity`. These are not valid JSON, but
/// Triton, TensorFlow Serving and Python's `json` write and read them, so that the response is the same as without the
/// batcher.
///
/// # Errors
/// Returns [`SplitError`] where an output does not have one row for each row of the batch: send the requests again, each
/// alone. A part is a [`PartError`] where its client's wire format cannot carry an output: answer that client with 400.
pub fn split(
    response: &InferResponse,
    requests: &[&InferRequest],
    rows: &BatchRows,
) -> Result<Vec<Result<ResponsePart, PartError>>, SplitError> {
    if let Some(v1) = &response.v1 {
        return v1.split(rows);
    }
    let outputs = response
        .outputs
        .iter()
        .map(|output| Ok(CutOutput { output, pieces: rows::cut(output, rows)? }))
        .collect::<Result<Vec<_>, SplitError>>()?;
    let parts = requests.iter().enumerate().map(|(index, request)| {
        let selected = outputs.iter().filter(|cut| is_selected(request, &cut.output.name));
        let parts = selected.map(|cut| OutputPart {
            output: cut.output,
            shape: rows::shape(cut.output, rows, index),
            piece: &cut.pieces[index],
        });
        let parts: Vec<OutputPart<'_>> = parts.collect();
        request.format.protocol().write_response(response, request, &parts)
    });
    Ok(parts.collect())
}

/// Returns the response to a client whose request [`crate::merge`] left unchanged, alone in its batch: the model server's
/// `body`, with its `header_length`. `format` and `rows` are those of [`crate::Merged`]. `None`: read the response and
/// [`split`] it, which also adds an id that the model server has not repeated.
pub fn unchanged_response(
    request: &InferRequest,
    format: WireFormat,
    rows: &BatchRows,
    header_length: Option<usize>,
    body: &Bytes,
) -> Option<ResponsePart> {
    if rows.requests.len() != 1 || rows.padding > 0 {
        return None;
    }
    request.format.protocol().unchanged_response(request, format, header_length, body)
}

fn is_selected(request: &InferRequest, output: &str) -> bool {
    request.outputs.is_empty() || request.outputs.iter().any(|selected| selected.name == output)
}

/// One output, cut into a piece for each request.
struct CutOutput<'a> {
    output: &'a Tensor,
    pieces: Vec<Piece>,
}

/// One client's rows of one output.
#[derive(Debug)]
pub struct OutputPart<'a> {
    /// The output of the whole batch.
    pub(crate) output: &'a Tensor,
    /// Shape of the client's rows.
    pub(crate) shape: Vec<u64>,
    pub(crate) piece: &'a Piece,
}

/// Elements of some rows.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Items of a JSON array, with the commas between them and without the brackets around them.
    Json(Bytes),
    /// Little-endian elements.
    Raw(Bytes),
}
