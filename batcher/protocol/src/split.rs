//! One answer → each client's rows in its own form.

mod grpc;
mod rest;
mod rows;
mod v1;

use bytes::Bytes;

use crate::merge::BatchRows;
use crate::{InferRequest, InferResponse, PartError, SplitError, Tensor, WireFormat};

/// One client's answer (HTTP status 200, gRPC status 0).
#[derive(Debug, Clone)]
pub struct ResponsePart {
    /// The client's form.
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

/// Shares an answer out by rows: one result per request, in their order. `requests` and `rows` are those of the
/// batch ([`crate::Merged::rows`]). Each answer has its client's form and id; model name, version and parameters
/// are the upstream's. A client that selected outputs gets those alone, even where the upstream sent more.
///
/// NaN and infinities go to JSON clients as the bare words `NaN`, `Infinity` and `-Infinity`: not strict JSON, but
/// what Triton, TensorFlow Serving and Python's `json` write and read, so that the answer is the one that the
/// client would have had directly.
///
/// # Errors
/// [`SplitError`]: an output has not one row per row of the batch; run the requests again singly. Within:
/// [`PartError`] for a client whose form cannot carry an output (answer it with 400).
pub fn split(
    response: &InferResponse,
    requests: &[&InferRequest],
    rows: &BatchRows,
) -> Result<Vec<Result<ResponsePart, PartError>>, SplitError> {
    if let Some(v1) = &response.v1 {
        return crate::v1::answers(v1, rows);
    }
    let outputs = response
        .outputs
        .iter()
        .map(|output| Ok(Shares { output, pieces: rows::cut(output, rows)? }))
        .collect::<Result<Vec<_>, SplitError>>()?;
    let answers = requests.iter().enumerate().map(|(index, request)| {
        let shares = outputs.iter().filter(|shares| is_selected(request, &shares.output.name));
        let shares = shares.map(|shares| Share {
            output: shares.output,
            shape: rows::shape(shares.output, rows, index),
            piece: &shares.pieces[index],
        });
        let shares: Vec<Share<'_>> = shares.collect();
        match request.format {
            WireFormat::Json | WireFormat::Binary => rest::answer(response, request, &shares),
            WireFormat::Grpc => grpc::answer(response, request, &shares),
            WireFormat::V1 => v1::answer(request, &shares),
        }
    });
    Ok(answers.collect())
}

fn is_selected(request: &InferRequest, output: &str) -> bool {
    request.outputs.is_empty() || request.outputs.iter().any(|selected| selected.name == output)
}

/// One output, cut into the requests' pieces.
struct Shares<'a> {
    output: &'a Tensor,
    pieces: Vec<Piece>,
}

/// One request's part of one output.
struct Share<'a> {
    output: &'a Tensor,
    shape: Vec<u64>,
    piece: &'a Piece,
}

/// Elements of some rows.
enum Piece {
    /// Items of a JSON array, with the commas between them and without the brackets around them.
    Json(Bytes),
    /// Little-endian elements.
    Raw(Bytes),
}
