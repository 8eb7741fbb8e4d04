//! The other programs' admin ports as `demo` and `compare` see them: readiness, metrics, upstreams.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// Time limit of one request.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A program's admin port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admin(pub SocketAddr);

/// Model server as reported by the gateway.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Upstream {
    /// Name of the replica.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// `ready` takes traffic.
    pub state: String,
}

/// Metrics in Prometheus' text format.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics(String);

impl Admin {
    /// The body of `path`, if the answer is a success.
    ///
    /// # Errors
    /// No connection, no answer in time, or an answer that is no success.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, String> {
        tokio::time::timeout(TIMEOUT, self.fetch(path))
            .await
            .map_err(|_| format!("http://{}{path}: no answer within {} s", self.0, TIMEOUT.as_secs()))?
            .map_err(|error| format!("http://{}{path}: {error}", self.0))
    }

    async fn fetch(&self, path: &str) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.0).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = http::Request::get(path)
            .header(http::header::HOST, self.0.to_string())
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        drop(sender);
        let _ = connection.await;
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim_end()).into());
        }
        Ok(body)
    }

    /// The program's metrics.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub(crate) async fn metrics(&self) -> Result<Metrics, String> {
        Ok(Metrics(String::from_utf8_lossy(&self.get("/metrics").await?).into_owned()))
    }

    /// The gateway's model servers.
    ///
    /// # Errors
    /// As [`Admin::get`], or when the answer is not what a gateway answers.
    pub(crate) async fn upstreams(&self) -> Result<Vec<Upstream>, String> {
        #[derive(Deserialize)]
        struct Answer {
            upstreams: Vec<Upstream>,
        }
        let body = self.get("/upstreams").await?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(answer.upstreams)
    }
}

impl Metrics {
    /// Sum over all series of the name; `None` where no series has it.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        self.0
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let value = match rest.strip_prefix('{') {
                    Some(labelled) => labelled.rsplit_once('}')?.1,
                    None => rest.strip_prefix(' ')?,
                };
                value.split_whitespace().next()?.parse::<f64>().ok()
            })
            .reduce(|sum, value| sum + value)
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn series_of_one_name_are_added_up_and_longer_names_are_not() {
        let metrics =
            Metrics("# HELP a x\na{profile=\"2g {}\"} 1.5\na{profile=\"1g\"} 2\na_total 7\nb 3\n".into());
        assert_eq!(metrics.sum("a"), Some(3.5));
        assert_eq!(metrics.sum("b"), Some(3.0));
        assert_eq!(metrics.sum("c"), None);
    }
}
