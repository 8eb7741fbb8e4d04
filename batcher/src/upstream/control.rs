//! The control connection to one model server: who it is, whether it is ready, what its models are, and
//! warm-up calls. Everything over one connection, so that it all concerns the same process.
//!
//! | module | what is there |
//! |---|---|
//! | `rest` | the questions over HTTP/1.1 |
//! | `grpc` | the same questions as gRPC calls; their answers are written as the REST ones |
//! | `connecting` | one connection after the other, to the same server |
//! | `dial` | which of both a server speaks |
//! | `keeping` | pure: whether it keeps its connections |
//! | `models` | which models it says that it has |

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
    /// Somebody else listens there than when the first question was asked.
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
    /// It answers, but does not say.
    #[error("it answers {0}")]
    Busy(StatusCode),
    /// The request cannot be written in the server's form.
    #[error("{0}")]
    Unwritable(String),
    /// It speaks neither protocol.
    #[error("the model server speaks neither HTTP/1.1 ({rest}) nor gRPC ({grpc})")]
    Neither {
        /// What came of HTTP/1.1.
        rest: Box<ControlError>,
        /// What came of gRPC.
        grpc: Box<ControlError>,
    },
}

/// Questions to one model server, over one connection where it keeps that. One that closes its connections is asked
/// over others, for as long as it is the same server.
#[derive(Debug)]
pub struct ControlConnection {
    /// `None` where it has ended; the next question opens another one.
    connection: Option<Connection>,
    place: ControlEndpoint,
    listeners: Vec<u64>,
    keeping: Keeping,
    /// From now on the end of the connection to a server elsewhere is the end of that server.
    is_settled: bool,
}

/// Where a control connection goes, and what is spoken over it.
#[derive(Debug, Clone)]
pub struct ControlEndpoint {
    wire: Wire,
    endpoint: Endpoint,
    /// Headers of each request of our own, with `Host`.
    headers: HeaderMap,
}

impl ControlEndpoint {
    /// An address as the settings have it; `own_headers` go with each request.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub async fn resolve(wire: Wire, address: &str, own_headers: &HeaderMap) -> Result<Self, ControlError> {
        let mut headers = own_headers.clone();
        headers.insert(header::HOST, host_of(address));
        Ok(Self { wire, endpoint: resolve(address).await?, headers })
    }
}

/// The endpoint of an address as the settings have it.
///
/// # Errors
/// The name cannot be resolved.
pub async fn resolve(address: &str) -> Result<Endpoint, ControlError> {
    Endpoint::resolve(address).await.map_err(|error| ControlError::Unresolved(address.to_owned(), error))
}

impl ControlConnection {
    /// Connects.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn open(place: ControlEndpoint) -> Result<Self, ControlError> {
        let connection = connect(&place).await?;
        let listeners = place.endpoint.listeners();
        let keeping = Keeping::default();
        Ok(Self { connection: Some(connection), place, listeners, keeping, is_settled: false })
    }

    /// For another connection of the same kind.
    pub fn place(&self) -> &ControlEndpoint {
        &self.place
    }

    /// What the server speaks.
    pub fn wire(&self) -> Wire {
        self.place.wire
    }

    /// Where it is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.place.endpoint
    }

    /// Who listened there when the connection was made; empty for an upstream elsewhere.
    pub fn listeners(&self) -> &[u64] {
        &self.listeners
    }

    /// Whether the model server says that it is ready. One that does not know the question counts as ready: it
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

    /// `GET /v2`, where there is one.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn server_metadata(&mut self) -> Result<Option<Bytes>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_document("/v2").await,
            Wire::Grpc => self.grpc_server_metadata().await,
        }
    }

    /// `GET /v2/models/{model}`; `None` when there is no such model.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn model_metadata(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_document(&rest::model_path(model)).await,
            Wire::Grpc => self.grpc_model_metadata(model).await,
        }
    }

    /// `GET /v2/models/{model}/config`, Triton's extension; `None` where it is unknown or not allowed.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn model_config(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_document(&format!("{}/config", rest::model_path(model))).await,
            Wire::Grpc => self.grpc_model_config(model).await,
        }
    }

    /// `GET /v1/models/{model}`; `None` where there is none.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn v1_model(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_document(&rest::v1_path(model)).await,
            Wire::Grpc => Ok(None),
        }
    }

    /// The whole answer to the question for a model's metadata.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn ask_for_metadata(&mut self, model: &str) -> Result<UpstreamResponse, ControlError> {
        match self.wire() {
            Wire::Rest => self.get(&rest::model_path(model)).await,
            Wire::Grpc => self.grpc_ask_for_metadata(model).await,
        }
    }

    /// What a server that does not have a model says to an inference, where it says that there is none; over HTTP/1.1.
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

    /// The whole answer to V1's question for a model, over HTTP/1.1.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn ask_for_v1(&mut self, model: &str) -> Result<UpstreamResponse, ControlError> {
        self.get(&rest::v1_path(model)).await
    }

    /// Whether a version of a model is ready, and the whole answer.
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

    /// A warm-up call.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn infer(&mut self, model: &str, body: Merged) -> Result<UpstreamResponse, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_infer(model, body).await,
            Wire::Grpc => self.grpc_infer(body).await,
        }
    }

    /// The status that a path is answered with; of gRPC, what the question whether it lives is answered with.
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

/// A digest of metadata documents. It only has to tell one answer from the next within this process.
pub fn digest(documents: &[Option<Bytes>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    documents.hash(&mut hasher);
    hasher.finish()
}
