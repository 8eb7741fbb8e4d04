//! The control connection to one model server: questions about its identity, its readiness and its models, and warm-up
//! calls. All go over one connection, so that all answers come from the same process.
//!
//! | module | what is there |
//! |---|---|
//! | `rest` | the questions over HTTP/1.1 |
//! | `grpc` | the same questions as gRPC calls; the answers are translated to the REST ones |
//! | `connecting` | reconnects to the same server when a connection has ended |
//! | `dial` | finds out which protocol a server speaks |
//! | `keeping` | pure: whether a server keeps its connections open |
//! | `models` | the models that a server lists |

mod connecting;
mod dial;
mod grpc;
mod keeping;
pub mod models;
mod rest;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use sluice_protocol::Merged;
use tokio::time::timeout;

use super::connection::{Chunks, Connection, ExchangeError, UpstreamResponse, Wire};
use super::endpoint::{Endpoint, host_of};
use keeping::Keeping;

/// Longest time that a question about health or metadata may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that a warm-up call may take: the first one compiles kernels on some servers.
const WARMUP_TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum bytes of an answer over the control connection.
const ANSWER_BYTES: usize = 256 << 20;
/// Header that marks warm-up calls, so that the model server's logs can tell them from clients' calls.
const WARMUP_HEADER: &str = "x-sluice-warmup";

/// Why there is no answer to a question.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address cannot be resolved.
    #[error("{0} cannot be resolved: {1}")]
    Unresolved(String, std::io::Error),
    /// The connection attempt failed.
    #[error("cannot connect to {0}: {1}")]
    Refused(Endpoint, std::io::Error),
    /// Another process listens there than when the first question was asked.
    #[error("another process listens at {0} now")]
    Changed(Endpoint),
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] ExchangeError),
    /// No answer in time.
    #[error("no answer to {0} within {1:?}")]
    Timeout(String, Duration),
    /// The path or host is not valid.
    #[error("{0}")]
    Invalid(#[from] http::Error),
    /// The server answers with a status that does not answer the question.
    #[error("it answers {0}")]
    Busy(StatusCode),
    /// The request cannot be written in the server's wire format.
    #[error("{0}")]
    Unwritable(String),
    /// The server speaks neither protocol.
    #[error("the model server speaks neither HTTP/1.1 ({rest}) nor gRPC ({grpc})")]
    Neither {
        /// Error of the attempt over HTTP/1.1.
        rest: Box<ControlError>,
        /// Error of the attempt over gRPC.
        grpc: Box<ControlError>,
    },
}

/// Asks one model server questions over one connection. A server that closes its connections is asked over new ones, as
/// long as it is the same server.
#[derive(Debug)]
pub struct ControlConnection {
    /// `None` if the connection has ended; the next question opens another one.
    connection: Option<Connection>,
    place: ControlEndpoint,
    listeners: Vec<u64>,
    keeping: Keeping,
    /// Whether the end of the connection to a server on another machine counts as the end of that server.
    is_settled: bool,
}

/// Endpoint and protocol of a control connection.
#[derive(Debug, Clone)]
pub struct ControlEndpoint {
    wire: Wire,
    endpoint: Endpoint,
    /// Headers of each of the batcher's own requests, with `Host`.
    headers: HeaderMap,
}

impl ControlEndpoint {
    /// Resolves an address from the settings; `own_headers` are sent with each request.
    ///
    /// # Errors
    /// Fails if the name cannot be resolved.
    pub async fn resolve(wire: Wire, address: &str, own_headers: &HeaderMap) -> Result<Self, ControlError> {
        let mut headers = own_headers.clone();
        headers.insert(header::HOST, host_of(address));
        Ok(Self { wire, endpoint: resolve(address).await?, headers })
    }
}

/// Resolves an address from the settings.
///
/// # Errors
/// Fails if the name cannot be resolved.
pub async fn resolve(address: &str) -> Result<Endpoint, ControlError> {
    Endpoint::resolve(address).await.map_err(|error| ControlError::Unresolved(address.to_owned(), error))
}

impl ControlConnection {
    /// Connects to the endpoint.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn open(place: ControlEndpoint) -> Result<Self, ControlError> {
        let connection = connect(&place).await?;
        let listeners = place.endpoint.listeners();
        let keeping = Keeping::default();
        Ok(Self { connection: Some(connection), place, listeners, keeping, is_settled: false })
    }

    /// Returns what another connection of the same kind is opened with.
    pub fn place(&self) -> &ControlEndpoint {
        &self.place
    }

    /// Returns the protocol of the connection.
    pub fn wire(&self) -> Wire {
        self.place.wire
    }

    /// Returns the endpoint that it is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.place.endpoint
    }

    /// Returns the numbers of the listeners when the connection was made; empty for a server on another machine.
    pub fn listeners(&self) -> &[u64] {
        &self.listeners
    }

    /// Asks whether the model server is ready. One that does not support the question counts as ready, because it
    /// answers.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn is_ready(&mut self) -> Result<bool, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_is_ready().await,
            Wire::Grpc => self.grpc_is_ready().await,
        }
    }

    /// Asks for `/v2`, the server's metadata; `None` if the server has none.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn server_metadata(&mut self) -> Result<Option<Bytes>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_document("/v2").await,
            Wire::Grpc => self.grpc_server_metadata().await,
        }
    }

    /// Asks for `/v2/models/{model}`, a model's metadata; `None` if there is no such model.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn model_metadata(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_document(&rest::model_path(model)).await,
            Wire::Grpc => self.grpc_model_metadata(model).await,
        }
    }

    /// Asks for `/v2/models/{model}/config`, Triton's extension; `None` if it is unknown or not allowed.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn model_config(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_document(&format!("{}/config", rest::model_path(model))).await,
            Wire::Grpc => self.grpc_model_config(model).await,
        }
    }

    /// Asks for `/v1/models/{model}`, a model's V1 status; `None` if the server does not answer with one, or over gRPC.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn v1_model(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_document(&rest::v1_path(model)).await,
            Wire::Grpc => Ok(None),
        }
    }

    /// Asks for a model's metadata; returns the whole answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn ask_for_metadata(&mut self, model: &str) -> Result<UpstreamResponse, ControlError> {
        match self.wire() {
            Wire::Rest => self.get(&rest::model_path(model)).await,
            Wire::Grpc => self.grpc_ask_for_metadata(model).await,
        }
    }

    /// Sends an inference request without inputs; returns the whole answer if it is a 404. `None` for any other status,
    /// or over gRPC.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn ask_to_infer(&mut self, model: &str) -> Result<Option<UpstreamResponse>, ControlError> {
        if self.wire() == Wire::Grpc {
            return Ok(None);
        }
        let answer = self.rest_infer_nothing(model).await?;
        Ok((answer.status == StatusCode::NOT_FOUND).then_some(answer))
    }

    /// Asks for a model's V1 status, over HTTP/1.1; returns the whole answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn ask_for_v1(&mut self, model: &str) -> Result<UpstreamResponse, ControlError> {
        self.get(&rest::v1_path(model)).await
    }

    /// Asks whether a version of a model is ready; also returns the whole answer.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn version_is_ready(
        &mut self,
        model: &str,
        version: &str,
    ) -> Result<(bool, UpstreamResponse), ControlError> {
        match self.wire() {
            Wire::Rest => {
                let answer = self.get(&rest::ready_path(model, version)).await?;
                Ok((rest::says_ready(&answer), answer))
            }
            Wire::Grpc => self.grpc_version_is_ready(model, version).await,
        }
    }

    /// Makes a warm-up call.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn infer(&mut self, model: &str, body: Merged) -> Result<UpstreamResponse, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_infer(model, body).await,
            Wire::Grpc => self.grpc_infer(body).await,
        }
    }

    /// Returns the status of a `GET` of the path; over gRPC, of the liveness question instead.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status(&mut self, path: &str) -> Result<StatusCode, ControlError> {
        match self.wire() {
            Wire::Rest => Ok(self.get(path).await?.status),
            Wire::Grpc => self.grpc_is_live().await,
        }
    }

    async fn ask(
        &mut self,
        mut request: Request<Chunks>,
        patience: Duration,
    ) -> Result<UpstreamResponse, ControlError> {
        let headers = request.headers_mut();
        for (name, value) in &self.place.headers {
            headers.insert(name, value.clone());
        }
        let path = request.uri().path().to_owned();
        match timeout(patience, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ControlError::Timeout(path, patience)),
        }
    }
}

async fn connect(place: &ControlEndpoint) -> Result<Connection, ControlError> {
    let refused = |error| ControlError::Refused(place.endpoint.clone(), error);
    Connection::open(place.wire, &place.endpoint).await.map_err(refused)
}

/// Returns a digest of metadata documents, to notice changes. It is comparable only within this process.
pub fn digest(documents: &[Option<Bytes>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    documents.hash(&mut hasher);
    hasher.finish()
}
