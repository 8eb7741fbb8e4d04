//! The control connection to one model server: who it is, whether it is ready, what its models are, and
//! warm-up calls. Everything over one connection, so that it all concerns the same process.
//!
//! | module | what is there |
//! |---|---|
//! | `rest` | the questions over HTTP/1.1 |
//! | `grpc` | the same questions as gRPC calls; their answers are written as the REST ones |
//! | `dial` | which of both a server speaks |

mod dial;
mod grpc;
mod rest;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use sluice_protocol::Merged;
use tokio::time::timeout;

use super::connection::{Answer, Chunks, Connection, ExchangeError, Wire};
use super::endpoint::{Endpoint, host_of};

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

/// An open control connection.
#[derive(Debug)]
pub struct Control {
    connection: Connection,
    place: Place,
    listeners: Vec<u64>,
}

/// Where a control connection goes, and what is spoken over it.
#[derive(Debug, Clone)]
pub struct Place {
    wire: Wire,
    endpoint: Endpoint,
    /// Headers of each request of our own, with `Host`.
    headers: HeaderMap,
}

impl Place {
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

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn open(place: Place) -> Result<Self, ControlError> {
        let refused = |error| ControlError::Refused(place.endpoint.clone(), error);
        let connection = Connection::open(place.wire, &place.endpoint).await.map_err(refused)?;
        let listeners = place.endpoint.listeners();
        Ok(Self { connection, place, listeners })
    }

    /// For another connection of the same kind.
    pub fn place(&self) -> &Place {
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

    /// Whether the same process still listens there. For an upstream elsewhere: whether the connection stands.
    pub fn still_there(&self) -> bool {
        if self.listeners.is_empty() {
            !self.connection.is_closed()
        } else {
            // The table may move while it is read; a socket that is missing is looked for once more.
            (0..2).any(|_| self.place.endpoint.listeners() == self.listeners)
        }
    }

    /// Waits until the model server closes the connection.
    pub async fn until_closed(&mut self) {
        self.connection.until_closed().await;
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

    /// Whether the model server has a model, whatever of the protocols it speaks: by its metadata, its V1 status or the
    /// list of OpenAI's API. `None` where it does not tell us.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn has_model(&mut self, model: &str) -> Result<Option<bool>, ControlError> {
        match self.wire() {
            Wire::Rest => self.rest_has_model(model).await,
            Wire::Grpc => self.grpc_has_model(model).await,
        }
    }

    /// A warm-up call.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn infer(&mut self, model: &str, body: Merged) -> Result<Answer, ControlError> {
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
    ) -> Result<Answer, ControlError> {
        let headers = request.headers_mut();
        for (name, value) in &self.place.headers {
            headers.insert(name, value.clone());
        }
        let path = request.uri().path().to_owned();
        match timeout(patience, self.connection.exchange(request, ANSWER_BYTES)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ControlError::Timeout(path, patience)),
        }
    }
}

/// What an answer to the question for a model says of it. A server that is busy, or that does not know us, says nothing.
fn says(status: StatusCode) -> Option<bool> {
    let is_silent = status.is_server_error()
        || [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    // That it does not know the question says that the model is not there to be asked for in this way.
    (!is_silent || status == StatusCode::NOT_IMPLEMENTED).then(|| status.is_success())
}

/// A digest of metadata documents. It only has to tell one answer from the next within this process.
pub fn digest(documents: &[Option<Bytes>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    documents.hash(&mut hasher);
    hasher.finish()
}
