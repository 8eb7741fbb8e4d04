//! Checks a peer by one request in its own form. A peer whose answer is wrong is not measured.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::peer::{Form, Peer};
use super::program::Program;
use crate::reference;

/// Row of the request.
const ROW_ID: i64 = 7;
/// Time limit for a peer to become ready; large Python servers take 20 s on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// Polling interval.
const POLL: Duration = Duration::from_millis(100);
/// Time limit of one request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns path and body of a request for one row in the peer's form.
pub(crate) fn request(peer: Peer) -> (&'static str, Bytes) {
    let x = reference::row(ROW_ID);
    let row = json!({"id": ROW_ID, "x": x});
    let (path, body) = match peer.form() {
        Form::V2 => (
            "/v2/models/reference/infer",
            json!({"id": "r7", "inputs": [
                {"name": reference::ID, "shape": [1, 1], "datatype": "INT64", "data": [ROW_ID]},
                {"name": reference::X, "shape": [1, reference::WIDTH], "datatype": "FP32", "data": x},
            ]}),
        ),
        Form::Own { path, listed: false } => (path, row),
        Form::Own { path, listed: true } => (path, json!({"rows": [row]})),
    };
    (path, body.to_string().into())
}

/// Returns whether `answer` has the numbers of the row that [`request`] sends.
pub(crate) fn is_right(answer: &Value) -> bool {
    let outputs = answer.get("outputs").and_then(Value::as_array);
    let of_v2 = outputs.and_then(|outputs| {
        outputs.iter().find(|output| output["name"] == reference::Y).and_then(|output| output.get("data"))
    });
    let found = of_v2.or_else(|| answer.get("y")).or_else(|| answer.get(0)?.get("y"));
    let right = reference::row(ROW_ID).map(|x| f64::from(reference::answer(ROW_ID, x)));
    found.is_some_and(|found| {
        let mut numbers = Vec::new();
        flatten(found, &mut numbers);
        numbers == right
    })
}

fn flatten(value: &Value, into: &mut Vec<f64>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| flatten(value, into)),
        value => into.extend(value.as_f64()),
    }
}

/// Waits until the peer answers correctly.
///
/// # Errors
/// When the peer ended, or its last answer within the time limit was wrong.
pub(crate) async fn until_right(peer: Peer, program: &mut Program, address: SocketAddr) -> Result<()> {
    let deadline = tokio::time::Instant::now() + START_TIMEOUT;
    loop {
        if let Some(ended) = program.ended() {
            bail!(ended);
        }
        let last = match tokio::time::timeout(ANSWER_TIMEOUT, ask(peer, address)).await {
            Ok(Ok(answer)) if serde_json::from_str(&answer).is_ok_and(|answer| is_right(&answer)) => {
                return Ok(());
            }
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "no answer".to_owned(),
        };
        if tokio::time::Instant::now() >= deadline {
            let seconds = START_TIMEOUT.as_secs();
            let last: String = last.chars().take(300).collect();
            bail!("no right answer within {seconds} s: {last}; its log: {}", program.last_words());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn ask(peer: Peer, address: SocketAddr) -> Result<String> {
    let (path, body) = request(peer);
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::post(path)
        .header(http::header::HOST, address.to_string())
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_each_form_are_found_and_wrong_numbers_are_seen() {
        let y: Vec<f32> = reference::row(ROW_ID).map(|x| reference::answer(ROW_ID, x)).to_vec();
        let v2 = |y: &[f32]| json!({"outputs": [{"name": "id", "data": [7]}, {"name": "y", "data": [y]}]});
        assert!(is_right(&v2(&y)));
        assert!(is_right(&json!({"id": 7, "y": y})));
        assert!(is_right(&json!([{"id": 7, "y": y}])));
        assert!(!is_right(&v2(&y[1..])));
        assert!(!is_right(&json!({"error": "no"})));
        let mut other = y;
        other[3] += 1.0;
        assert!(!is_right(&v2(&other)));
    }
}
