//! One request over a plain socket, for what a load's report does not show: the head of the response.

use anyhow::Result;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends one inference request and returns head and body of the response.
pub(crate) async fn infer(target: &str) -> Result<String> {
    let body = json!({ "inputs": [
        { "name": "id", "datatype": "INT64", "shape": [1, 1], "data": [1] },
        { "name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![0.5; 16] },
    ]})
    .to_string();
    let mut stream = TcpStream::connect(target).await?;
    let head = format!(
        "POST /v2/models/reference/infer HTTP/1.1\r\nhost: {target}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
