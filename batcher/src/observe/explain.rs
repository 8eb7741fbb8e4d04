//! `/explain`: says in sentences what happened to a request, and why.

use serde::Serialize;

use super::record::{Inference, Record};

/// Explanation of one request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation<'a> {
    /// Record of the request.
    request: &'a Record,
    /// Sentences on what happened, in order.
    why: Vec<String>,
    /// Ids of the other requests of its batch, of those that are still kept.
    merged_with: Vec<&'a str>,
}

/// Explains a request; `kept` are all requests that are kept.
pub fn explain<'a>(request: &'a Record, kept: impl Iterator<Item = &'a Record>) -> Explanation<'a> {
    let batch = |record: &Record| {
        let inference = record.inference.as_ref()?;
        Some((inference.model.clone(), inference.batch?))
    };
    let own = batch(request);
    let merged_with = kept
        .filter(|other| own.is_some() && batch(other) == own && !std::ptr::eq(*other, request))
        .map(|other| other.request_id.as_str())
        .collect();
    Explanation { request, why: why(request), merged_with }
}

fn why(request: &Record) -> Vec<String> {
    let mut why = Vec::new();
    match &request.inference {
        None => {
            why.push("It did not come as far as a queue: it passed through, or was answered before.".into())
        }
        Some(inference) => queue_words(inference, &mut why),
    }
    if let Some(error) = &request.error {
        why.push(format!("The batcher itself answered: {error}"));
    }
    why.push(match request.status {
        None => format!("The client went away after {:.1} ms.", request.total_ms),
        Some(status) => {
            format!("It was answered with {status} ({}) after {:.1} ms.", request.outcome, request.total_ms)
        }
    });
    why
}

fn queue_words(inference: &Inference, why: &mut Vec<String>) {
    let predicted = match inference.predicted_ms {
        None => "there was no prediction, because no service curve or no warm slot was known".to_owned(),
        Some(ms) => format!("its answer was expected after {ms:.1} ms"),
    };
    let refused = match inference.refusal {
        None => "taken in".to_owned(),
        Some(reason) => format!("refused ({reason})"),
    };
    why.push(format!(
        "{} row(s) for model {}; deadline {:.1} ms; on arrival {predicted}; it was {refused}.",
        inference.rows, inference.model, inference.deadline_ms
    ));
    if let Some(reason) = &inference.alone {
        why.push(format!("It may share no batch: {reason}."));
    }
    if let (Some(number), Some(wait_ms), Some(requests), Some(rows)) =
        (inference.batch, inference.wait_ms, inference.batch_requests, inference.batch_rows)
    {
        let release = match inference.release {
            Some("full") => "the batch had as many rows as it may have",
            Some("alone") => "it goes alone",
            Some("suspect") => {
                "a call that it was in had failed or took far too long, so part of it goes again, apart from all others"
            }
            _ => "a slot was free, and this was all that waited and could be merged",
        };
        why.push(format!(
            "After {wait_ms:.1} ms it went in batch {number}, {requests} request(s) of {rows} row(s): {release}."
        ));
    }
    if let (Some(upstream), Some(ms)) = (&inference.upstream, inference.upstream_ms) {
        let calls = match (inference.calls, inference.broken_calls) {
            (1, 0) => "one call".to_owned(),
            (calls, 0) => {
                format!(
                    "{calls} calls: the batch was refused or could not be shared out, and ran again in parts"
                )
            }
            (calls, broken) => format!("{calls} calls, {broken} of them without an answer"),
        };
        why.push(format!("It took {ms:.1} ms at {upstream}, {calls}."));
    }
}
