//! Cuts a V1 response by rows, as text.

use std::ops::Range;

use bytes::Bytes;

use super::read_response::{Results, TextResponse};
use crate::chunks::Chunks;
use crate::json::{items, write as text};
use crate::{BatchRows, PartError, ResponsePart, SplitError, WireFormat};

const CONTENT_TYPE: &str = "application/json";

impl TextResponse {
    /// Cuts the response by rows: one part per request. The only request of a batch without padding gets the body as it is.
    pub(crate) fn split(&self, rows: &BatchRows) -> Result<Vec<Result<ResponsePart, PartError>>, SplitError> {
        if rows.requests.len() == 1 && rows.padding == 0 {
            let (chunks, body_bytes) = (vec![self.body.clone()], self.body.len());
            return Ok(vec![Ok(part(chunks, body_bytes))]);
        }
        let error = |field: &str, found: usize| SplitError {
            output: field.to_owned(),
            shape: vec![found as u64],
            rows: rows.total(),
        };
        if let Some(field) = &self.unshareable {
            return Err(error(field, 0));
        }
        if self.results.is_empty() {
            return Err(error("predictions", 0));
        }
        let cut = |name: &str, array: &Bytes| runs(array, rows).map_err(|found| error(name, found));
        let cuts = self.results.iter().map(|(name, result)| match result {
            Results::Array(array) => Ok(vec![cut(name, array)?]),
            Results::Arrays(arrays) => arrays.iter().map(|(name, array)| cut(name, array)).collect(),
        });
        let cuts: Vec<Vec<Vec<Range<usize>>>> = cuts.collect::<Result<_, SplitError>>()?;

        let one = |index: usize| {
            let mut chunks = Chunks::default();
            chunks.copy(b"{");
            for (at, ((name, result), cuts)) in self.results.iter().zip(&cuts).enumerate() {
                if at > 0 {
                    chunks.copy(b",");
                }
                field_name(&mut chunks, name);
                match result {
                    Results::Array(array) => share(&mut chunks, array, &cuts[0][index]),
                    Results::Arrays(arrays) => {
                        chunks.copy(b"{");
                        for (at, ((name, array), cut)) in arrays.iter().zip(cuts).enumerate() {
                            if at > 0 {
                                chunks.copy(b",");
                            }
                            field_name(&mut chunks, name);
                            share(&mut chunks, array, &cut[index]);
                        }
                        chunks.copy(b"}");
                    }
                }
            }
            for (name, value) in &self.fields {
                chunks.copy(b",");
                field_name(&mut chunks, name);
                chunks.share(value);
            }
            chunks.copy(b"}");
            let (chunks, body_bytes) = chunks.finish();
            part(chunks, body_bytes)
        };
        Ok((0..rows.requests.len()).map(|index| Ok(one(index))).collect())
    }
}

fn part(chunks: Vec<Bytes>, body_bytes: usize) -> ResponsePart {
    ResponsePart {
        format: WireFormat::V1,
        header_length: None,
        content_type: CONTENT_TYPE,
        chunks,
        body_bytes,
    }
}

fn field_name(chunks: &mut Chunks, name: &str) {
    text::string(&mut chunks.open, name);
    chunks.copy(b":");
}

fn share(chunks: &mut Chunks, array: &Bytes, run: &Range<usize>) {
    chunks.copy(b"[");
    chunks.share(&array.slice(run.clone()));
    chunks.copy(b"]");
}

/// Returns the range of each request's items, and behind them that of the padding. The error is the number of items, where
/// that is not the batch's number of rows.
fn runs(array: &[u8], rows: &BatchRows) -> Result<Vec<Range<usize>>, usize> {
    if !items::is_array(array) {
        return Err(0);
    }
    let mut items = items::items(array);
    let mut seen = 0;
    let mut runs = Vec::with_capacity(rows.requests.len());
    for length in rows.runs() {
        let mut run: Option<Range<usize>> = None;
        for _ in 0..length {
            let item = items.next().ok_or(seen)?;
            seen += 1;
            run = Some(run.map_or(item.start, |run| run.start)..item.end);
        }
        runs.push(run.unwrap_or(0..0));
    }
    match items.count() {
        0 => Ok(runs),
        more => Err(seen + more),
    }
}
