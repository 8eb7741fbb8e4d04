//! Merges several requests into one, and divides its response among them: the work that reads all of their bytes.

// A request is several hundred bytes and changes hands often: its box is moved, not the request.
#![allow(clippy::vec_box)]

use sluice_protocol::{
    BatchRows, HEADER_LENGTH, InferRequest, MergeError, Merged, ResponseError, SplitError, WireFormat,
    merge_padded, parse_response, split, unchanged_response,
};

use super::{Entry, Reply};
use crate::answers::budget::AnswerBudget;
use crate::failure::Failure;
use crate::offload::{RAW_DISCOUNT, offload};
use crate::upstream::connection::UpstreamResponse;

/// Why a response cannot be divided among the requests of its batch.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShareOutError {
    /// The response is not a valid one of its wire format.
    #[error(transparent)]
    Unreadable(#[from] ResponseError),
    /// An output has not one row per row of the batch.
    #[error(transparent)]
    Unequal(#[from] SplitError),
}

/// Merges requests into one, padded to `total_rows` rows. Returns it with the path to send it to, which is empty where the
/// merge fails.
pub(super) async fn merged(
    entries: Vec<Box<Entry>>,
    form: WireFormat,
    total_rows: usize,
) -> (Vec<Box<Entry>>, Result<Merged, MergeError>, String) {
    let bytes = entries.iter().map(|entry| bytes_to_merge(entry, form)).sum();
    offload(bytes, move || {
        let requests = parsed(&entries);
        let merged = merge_padded(&requests, form, total_rows);
        let path = |form| requests.first().map(|request| request.path(form)).unwrap_or_default();
        let path = merged.as_ref().map(|merged| path(merged.format)).unwrap_or_default();
        (entries, merged, path)
    })
    .await
}

/// Returns how many bytes a merge reads of a request.
fn bytes_to_merge(entry: &Entry, form: WireFormat) -> usize {
    let Some(request) = entry.parsed() else { return 0 };
    let (bytes, header) = (request.body.len(), request.header_length.unwrap_or(0));
    let stays_raw = request.format.protocol().carries_raw_tensors() && form.protocol().carries_raw_tensors();
    if stays_raw { header + bytes / RAW_DISCOUNT } else { bytes }
}

/// Gives each request its rows of the response.
pub(super) async fn shared_out(
    entries: Vec<Box<Entry>>,
    rows: BatchRows,
    form: WireFormat,
    answer: UpstreamResponse,
    budget: &AnswerBudget,
) -> (Vec<Box<Entry>>, Result<Vec<Reply>, ShareOutError>) {
    let budget = budget.clone();
    offload(bytes_to_share_out(&entries, form, &answer), move || {
        let replies = share_out(&entries, &rows, form, &answer, &budget);
        (entries, replies)
    })
    .await
}

/// Returns how many bytes of a response are read to divide it.
fn bytes_to_share_out(entries: &[Box<Entry>], form: WireFormat, answer: &UpstreamResponse) -> usize {
    let bytes = answer.body.len();
    let is_raw = form.protocol().carries_raw_tensors()
        && entries.iter().all(|entry| entry.form.protocol().carries_raw_tensors());
    if is_raw { header_length(answer).unwrap_or(0) + bytes / RAW_DISCOUNT } else { bytes }
}

fn share_out(
    entries: &[Box<Entry>],
    rows: &BatchRows,
    form: WireFormat,
    answer: &UpstreamResponse,
    budget: &AnswerBudget,
) -> Result<Vec<Reply>, ShareOutError> {
    let header_length = header_length(answer);
    let requests = parsed(entries);
    let counted = |mut rows: sluice_protocol::ResponsePart| {
        budget.charge_others(&mut rows.chunks, &answer.body);
        Reply::Rows(rows)
    };
    if let [request] = requests[..]
        && let Some(unchanged) = unchanged_response(request, form, rows, header_length, &answer.body)
    {
        return Ok(vec![counted(unchanged)]);
    }
    let response = parse_response(form, header_length, answer.body.clone())?;
    let answers = split(&response, &requests, rows)?;
    let reply = |result| match result {
        Ok(rows) => counted(rows),
        Err(error) => Reply::Failed(Failure::new(400, format!("{error}"))),
    };
    Ok(answers.into_iter().map(|result: Result<_, sluice_protocol::PartError>| reply(result)).collect())
}

fn header_length(answer: &UpstreamResponse) -> Option<usize> {
    answer.headers.get(HEADER_LENGTH)?.to_str().ok()?.parse().ok()
}

fn parsed(entries: &[Box<Entry>]) -> Vec<&InferRequest> {
    entries.iter().filter_map(|entry| entry.parsed()).collect()
}
