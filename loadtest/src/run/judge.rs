//! Decides the outcome of a request from its response. Pure. [`crate::record::Outcome`] defines the outcomes.

use std::borrow::Cow;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_protocol::HEADER_LENGTH;
use sluice_protocol::grpc::{self, Code, ModelInferResponse};

use super::payload::Expected;
use crate::plan::Protocol;
use crate::record::{LostKind, Outcome};
use crate::reference::{self, ID, WIDTH, Y};
use crate::tensor_text;

/// A complete response as it was received.
#[derive(Debug)]
pub(super) struct ReceivedResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers, which carry the status of gRPC.
    pub trailers: Option<HeaderMap>,
}

/// Returns the outcome of a request; for a wrong answer also what is wrong with it.
pub(super) fn judge(
    protocol: Protocol,
    response: &ReceivedResponse,
    expected: Expected,
) -> (Outcome, Option<String>) {
    let outcome = match protocol {
        Protocol::Grpc => grpc_status(response),
        Protocol::RestJson | Protocol::RestBinary | Protocol::Body => http_status(response.status),
    };
    let (Outcome::Answered, Expected::Reference { first_id, rows }) = (&outcome, expected) else {
        return (outcome, None);
    };
    let checked = match protocol {
        Protocol::Grpc => grpc_rows(&response.body),
        Protocol::RestJson | Protocol::RestBinary | Protocol::Body => rest_rows(response),
    }
    .and_then(|answer| check(&answer, first_id, rows));
    match checked {
        Ok(()) => (outcome, None),
        Err(wrong) => (Outcome::Lost(LostKind::WrongAnswer), Some(wrong.to_string())),
    }
}

fn http_status(status: StatusCode) -> Outcome {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Outcome::Rejected,
        StatusCode::BAD_GATEWAY => Outcome::Lost(LostKind::BadGateway),
        StatusCode::SERVICE_UNAVAILABLE => Outcome::Lost(LostKind::Unavailable),
        StatusCode::GATEWAY_TIMEOUT => Outcome::Lost(LostKind::GatewayTimeout),
        status if status.is_success() => Outcome::Answered,
        status => Outcome::Failed(status.as_u16().to_string()),
    }
}

fn grpc_status(response: &ReceivedResponse) -> Outcome {
    if !response.status.is_success() {
        return http_status(response.status);
    }
    // A gRPC error without a body carries its status in the headers.
    let status = response.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    let Some(status) = status.or_else(|| response.headers.get("grpc-status")) else {
        return Outcome::Lost(LostKind::Reset);
    };
    match Code::from_header(status.as_bytes()) {
        Code::Ok => Outcome::Answered,
        Code::ResourceExhausted => Outcome::Rejected,
        Code::Unavailable => Outcome::Lost(LostKind::Unavailable),
        Code::DeadlineExceeded | Code::Cancelled => Outcome::Lost(LostKind::Timeout),
        code => Outcome::Failed(format!("grpc {code:?}")),
    }
}

/// Rows of a response, independent of the wire format.
struct Rows {
    request_id: String,
    ids: Vec<i64>,
    y: Vec<f32>,
}

fn check(answer: &Rows, first_id: i64, rows: usize) -> anyhow::Result<()> {
    let asked = format!("r{first_id}");
    if answer.request_id != asked {
        bail!("request id is `{}`, asked as `{asked}`", answer.request_id);
    }
    let ids = first_id..first_id + rows as i64;
    if !answer.ids.iter().copied().eq(ids.clone()) {
        bail!("row ids are {:?}, asked for {ids:?}", &answer.ids[..answer.ids.len().min(8)]);
    }
    if answer.y.len() != rows * WIDTH {
        bail!("{} numbers for {rows} rows", answer.y.len());
    }
    for (id, y) in ids.zip(answer.y.chunks(WIDTH)) {
        let right = reference::row(id).map(|x| reference::answer(id, x));
        if y != right {
            bail!("y of row {id} is {y:?}, should be {right:?}");
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct RestResponse<'a> {
    #[serde(default, borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    outputs: Vec<RestOutput<'a>>,
}

#[derive(Deserialize)]
struct RestOutput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    /// Some servers write `null` for no parameters.
    #[serde(default)]
    parameters: Option<RestParameters>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct RestParameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

fn rest_rows(response: &ReceivedResponse) -> anyhow::Result<Rows> {
    let json_bytes = match response.headers.get(HEADER_LENGTH) {
        None => response.body.len(),
        Some(length) => {
            let length = length.to_str().ok().and_then(|text| text.parse().ok());
            length
                .filter(|length| *length <= response.body.len())
                .context("its JSON length makes no sense")?
        }
    };
    let (json, mut raw) = response.body.split_at(json_bytes);
    let answer: RestResponse<'_> =
        serde_json::from_slice(json).map_err(|error| anyhow!("no answer: {error}"))?;
    let mut rows = Rows { request_id: answer.id.into_owned(), ids: Vec::new(), y: Vec::new() };
    for output in answer.outputs {
        let own = match output.parameters.unwrap_or_default().binary_data_size {
            None => None,
            Some(bytes) => {
                let (own, rest) = raw.split_at_checked(bytes).context("its binary data is cut off")?;
                raw = rest;
                Some(own)
            }
        };
        match (own, output.data) {
            (Some(own), None) => put(&mut rows, &output.name, own),
            (None, Some(data)) => {
                let wrong = |error| anyhow!("output `{}`: {error:?}", output.name);
                match &*output.name {
                    ID => rows.ids = tensor_text::parse(data.get(), 1).map_err(wrong)?,
                    Y => rows.y = tensor_text::parse(data.get(), WIDTH).map_err(wrong)?,
                    _ => {}
                }
            }
            _ => return Err(anyhow!("output `{}` has no data, or has it twice", output.name)),
        }
    }
    Ok(rows)
}

fn grpc_rows(body: &Bytes) -> anyhow::Result<Rows> {
    let message = grpc::decode_unary(body.clone(), body.len())?;
    let answer = ModelInferResponse::decode(message)?;
    let mut rows = Rows { request_id: answer.id, ids: Vec::new(), y: Vec::new() };
    for (index, output) in answer.outputs.iter().enumerate() {
        match (answer.raw_output_contents.get(index), &output.contents) {
            (Some(raw), _) => put(&mut rows, &output.name, raw),
            (None, Some(contents)) if output.name == ID => rows.ids.clone_from(&contents.int64_contents),
            (None, Some(contents)) if output.name == Y => rows.y.clone_from(&contents.fp32_contents),
            (None, _) => {}
        }
    }
    Ok(rows)
}

fn put(rows: &mut Rows, name: &str, raw: &[u8]) {
    match name {
        ID => rows.ids = raw.as_chunks::<8>().0.iter().map(|le| i64::from_le_bytes(*le)).collect(),
        Y => rows.y = raw.as_chunks::<4>().0.iter().map(|le| f32::from_le_bytes(*le)).collect(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_null_are_none() {
        let numbers = |numbers: &[f32]| serde_json::to_string(numbers).unwrap();
        let y = numbers(&reference::row(7).map(|x| reference::answer(7, x)));
        let answer = |y: &str| ReceivedResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: format!(
                r#"{{"id":"r7","parameters":null,"outputs":[{{"name":"id","parameters":null,"data":[7]}},
                    {{"name":"y","parameters":null,"data":{y}}}]}}"#
            )
            .into(),
            trailers: None,
        };
        let expected = Expected::Reference { first_id: 7, rows: 1 };
        assert_eq!(judge(Protocol::RestJson, &answer(&y), expected), (Outcome::Answered, None));
        let wrong = judge(Protocol::RestJson, &answer(&numbers(&[0.0; WIDTH])), expected);
        assert_eq!(wrong.0, Outcome::Lost(LostKind::WrongAnswer));
    }
}
