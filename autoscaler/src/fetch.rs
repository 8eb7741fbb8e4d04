//! HTTP GET with a time limit and a size limit, for `/metrics`, readiness and the gateway's `/upstreams`.

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

/// Most bytes of one answer that are read ahead, its head included.
const MOST_BUFFERED_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL.
    #[error("{url:?} is not a URL such as http://127.0.0.1:8081/metrics: {message}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        message: String,
    },
    /// No connection, or it broke.
    #[error("GET {url}: {message}")]
    Failed {
        /// What was asked for.
        url: String,
        /// Whether nobody listens there at all.
        refused: bool,
        /// What the system said.
        message: String,
    },
    /// No complete answer in time.
    #[error("GET {url}: no answer within {timeout_ms} ms")]
    Timeout {
        /// What was asked for.
        url: String,
        /// The limit.
        timeout_ms: u128,
    },
    /// Another status than 200.
    #[error("GET {url}: status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// What came.
        status: StatusCode,
    },
}

impl FetchError {
    /// The answer broke off.
    pub fn broken(url: &str, error: &(dyn Error + Send + Sync + 'static)) -> Self {
        failed(url, error)
    }

    /// Whether nobody listens there at all: the process is gone, not slow.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Failed { refused: true, .. })
    }
}

/// A client with its limits. Cheap to clone; connections are kept between calls.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client<HttpConnector, Empty<Bytes>>,
    timeout: Duration,
    most_bytes: usize,
}

impl Fetcher {
    /// Gives up after `timeout` or beyond `most_bytes`.
    pub fn new(timeout: Duration, most_bytes: usize) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MOST_BUFFERED_BYTES)
            .pool_idle_timeout(Duration::from_secs(10))
            .build_http();
        Self { client, timeout, most_bytes }
    }

    /// Status and body of `url`.
    ///
    /// # Errors
    /// See [`FetchError`]; a status other than 200 is none here.
    pub async fn get(&self, url: &str) -> Result<(StatusCode, Bytes), FetchError> {
        let uri = uri(url)?;
        match tokio::time::timeout(self.timeout, self.exchange(uri)).await {
            Ok(answer) => answer.map_err(|error| failed(url, &*error)),
            Err(_) => Err(FetchError::Timeout { url: url.to_owned(), timeout_ms: self.timeout.as_millis() }),
        }
    }

    /// The body of `url`, whose status must be 200.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get_ok(&self, url: &str) -> Result<Bytes, FetchError> {
        match self.get(url).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(FetchError::Status { url: url.to_owned(), status }),
        }
    }

    /// The answer of `url`, whose status must be 200 (a redirect is not followed: who is asked answers itself). Its
    /// body and the time that it takes are the caller's to bound.
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

    /// How long an answer may take.
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

/// hyper's error with its causes, which hold the system's words.
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
