//! HTTP GET with limits of time and size, for `/metrics`, readiness and the gateway's `/upstreams`.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Maximum number of bytes of a response that are read ahead, its head included.
const MOST_BUFFERED_BYTES: usize = 64 << 10;

/// Reason why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is not valid.
    #[error("{url:?} is not a URL such as http://127.0.0.1:8081/metrics: {message}")]
    Url {
        /// URL that was given.
        url: String,
        /// Problem of the URL.
        message: String,
    },
    /// The connection could not be opened, or broke.
    #[error("GET {url}: {message}")]
    Failed {
        /// URL of the request.
        url: String,
        /// Whether the connection was refused: no process listens there.
        refused: bool,
        /// Error with its causes.
        message: String,
    },
    /// No complete response came in time.
    #[error("GET {url}: no answer within {timeout_ms} ms")]
    Timeout {
        /// URL of the request.
        url: String,
        /// Time limit in milliseconds.
        timeout_ms: u128,
    },
    /// The response has another status than 200.
    #[error("GET {url}: status {status}")]
    Status {
        /// URL of the request.
        url: String,
        /// Status of the response.
        status: StatusCode,
    },
}

impl FetchError {
    /// Creates the error of a response that broke off.
    pub fn broken(url: &str, error: &(dyn Error + Send + Sync + 'static)) -> Self {
        failed(url, error)
    }

    /// Returns whether the connection was refused: no process listens there, so it is gone, not slow.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Failed { refused: true, .. })
    }
}

/// HTTP client with limits. It is cheap to clone, and keeps connections between calls.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client<HttpConnector, Empty<Bytes>>,
    timeout: Duration,
    most_bytes: usize,
}

impl Fetcher {
    /// Creates a client that gives up after `timeout`, or when a body is longer than `most_bytes`.
    pub fn new(timeout: Duration, most_bytes: usize) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MOST_BUFFERED_BYTES)
            .pool_idle_timeout(Duration::from_secs(10))
            .build_http();
        Self { client, timeout, most_bytes }
    }

    /// Returns status and body of `url`.
    ///
    /// # Errors
    /// See [`FetchError`]; a status other than 200 is not an error here.
    pub async fn get(&self, url: &str) -> Result<(StatusCode, Bytes), FetchError> {
        let uri = uri(url)?;
        match tokio::time::timeout(self.timeout, self.exchange(uri)).await {
            Ok(answer) => answer.map_err(|error| failed(url, &*error)),
            Err(_) => Err(FetchError::Timeout { url: url.to_owned(), timeout_ms: self.timeout.as_millis() }),
        }
    }

    /// Returns the body of `url`, whose status must be 200.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get_ok(&self, url: &str) -> Result<Bytes, FetchError> {
        match self.get(url).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(FetchError::Status { url: url.to_owned(), status }),
        }
    }

    /// Returns the response of `url`, whose status must be 200; redirects are not followed. The caller must limit the
    /// body and the time.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn open(&self, url: &str) -> Result<Response<Incoming>, FetchError> {
        let response = self.client.get(uri(url)?).await.map_err(|error| failed(url, &error))?;
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(FetchError::Status { url: url.to_owned(), status }),
        }
    }

    /// Returns the time limit of a response.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn exchange(&self, uri: Uri) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
        let response = self.client.get(uri).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), self.most_bytes).collect().await?.to_bytes();
        Ok((status, body))
    }
}

fn uri(url: &str) -> Result<Uri, FetchError> {
    let wrong = |message: String| FetchError::Url { url: url.to_owned(), message };
    let uri: Uri = url.parse().map_err(|error| wrong(format!("{error}")))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(wrong("it needs http:// and a host".to_owned()));
    }
    Ok(uri)
}

/// Returns the error of hyper with its causes, of which the last has the message of the operating system.
fn failed(url: &str, error: &(dyn Error + Send + Sync + 'static)) -> FetchError {
    let mut message = error.to_string();
    let mut refused = false;
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        refused |= error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        cause = error.source();
    }
    FetchError::Failed { url: url.to_owned(), refused, message }
}
