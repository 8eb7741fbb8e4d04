//! The control connection to one model server: who it is, whether it is ready, what its models are, and
//! warm-up calls. Everything over one connection, so that it all concerns the same process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use sluice_protocol::{HEADER_LENGTH, Merged, Target};
use tokio::time::timeout;

use super::connection::{Answer, Chunks, ExchangeError, H1Connection};
use super::endpoint::Endpoint;

/// How long a question about health or metadata may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a warm-up call may take: the first one compiles kernels on some servers.
const WARMUP_TIMEOUT: Duration = Duration::from_secs(600);
/// Most bytes of an answer here.
const ANSWER_BYTES: usize = 256 << 20;
/// Tells warm-up calls from clients' calls in the model server's logs.
const WARMUP_HEADER: &str = "x-sluice-warmup";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address has no host behind it.
    #[error("{0} cannot be resolved: {1}")]
    Unresolved(String, std::io::Error),
    /// It cannot be connected to.
    #[error("cannot connect to {0}: {1}")]
    Refused(Endpoint, std::io::Error),
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] ExchangeError),
    /// No answer in time.
    #[error("no answer to {0} within {1:?}")]
    Timeout(String, Duration),
    /// The path or host is not valid.
    #[error("{0}")]
    Invalid(#[from] http::Error),
}

/// An open control connection.
#[derive(Debug)]
pub struct Control {
    connection: H1Connection,
    host: HeaderValue,
    endpoint: Endpoint,
    listeners: Vec<u64>,
}

/// The endpoint of an address as the settings have it.
///
/// # Errors
/// The name cannot be resolved.
pub async fn resolve(address: &str) -> Result<Endpoint, ControlError> {
    Endpoint::resolve(address).await.map_err(|error| ControlError::Unresolved(address.to_owned(), error))
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn open(endpoint: Endpoint, host: HeaderValue) -> Result<Self, ControlError> {
        let refused = |error| ControlError::Refused(endpoint.clone(), error);
        let connection = H1Connection::open(&endpoint).await.map_err(refused)?;
        let listeners = endpoint.listeners();
        Ok(Self { connection, host, endpoint, listeners })
    }

    /// Where it is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Who listened there when the connection was made; empty for an upstream elsewhere.
    pub fn listeners(&self) -> &[u64] {
        &self.listeners
    }

    /// Whether the same process still listens there. For an upstream elsewhere: whether the connection stands.
    pub fn still_there(&self) -> bool {
        if self.listeners.is_empty() {
            !self.connection.is_closed()
        } else {
            // The table may move while it is read; a socket that is missing is looked for once more.
            (0..2).any(|_| self.endpoint.listeners() == self.listeners)
        }
    }

    /// Waits until the model server closes the connection.
    pub async fn until_closed(&mut self) {
        self.connection.until_closed().await;
    }

    /// Whether the model server says that it is ready. One without that path counts as ready: it answers.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn is_ready(&mut self) -> Result<bool, ControlError> {
        let status = self.get("/v2/health/ready").await?.status;
        Ok(status.is_success() || status == StatusCode::NOT_FOUND)
    }

    /// `GET /v2`, where there is one.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn server_metadata(&mut self) -> Result<Option<Bytes>, ControlError> {
        let answer = self.get("/v2").await?;
        Ok(answer.status.is_success().then_some(answer.body))
    }

    /// `GET /v2/models/{model}`; `None` when there is no such model.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn model_metadata(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        let infer = Target { model: model.to_owned(), version: None }.infer_path();
        let path = infer.strip_suffix("/infer").unwrap_or(&infer);
        let answer = self.get(path).await?;
        Ok(answer.status.is_success().then_some(answer.body))
    }

    /// A warm-up call.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn infer(&mut self, model: &str, body: Merged) -> Result<Answer, ControlError> {
        let path = Target { model: model.to_owned(), version: None }.infer_path();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path.as_str())
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, body.content_type)
            .header(WARMUP_HEADER, "1");
        if let Some(length) = body.header_length {
            request = request.header(HEADER_LENGTH, HeaderValue::from(length));
        }
        self.ask(request.body(Chunks::new(body.chunks))?, path, WARMUP_TIMEOUT).await
    }

    /// The status that a path is answered with.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status(&mut self, path: &str) -> Result<StatusCode, ControlError> {
        Ok(self.get(path).await?.status)
    }

    async fn get(&mut self, path: &str) -> Result<Answer, ControlError> {
        let request = Request::builder().uri(path).header(header::HOST, &self.host).body(Chunks::default())?;
        self.ask(request, path.to_owned(), QUESTION_TIMEOUT).await
    }

    async fn ask(
        &mut self,
        request: Request<Chunks>,
        path: String,
        patience: Duration,
    ) -> Result<Answer, ControlError> {
        match timeout(patience, self.connection.exchange(request, ANSWER_BYTES)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ControlError::Timeout(path, patience)),
        }
    }
}

/// A digest of metadata documents. It only has to tell one answer from the next within this process.
pub fn digest(documents: &[Option<Bytes>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    documents.hash(&mut hasher);
    hasher.finish()
}
