//! The trait of a wire format that can be batched, which the folders `rest`, `grpc` and `v1` implement.

use std::fmt;

use bytes::Bytes;

use crate::chunks::Chunks;
use crate::merge::Column;
use crate::split::OutputPart;
use crate::{
    Address, BatchRows, InferRequest, InferResponse, Limits, MergeError, ModelSignature, ParseError,
    PartError, ResponseError, ResponsePart, SequenceStep, WireFormat, json_error,
};

/// A wire format: how it is recognised, read and written. [`WireFormat::protocol`] is the table.
pub trait WireProtocol: fmt::Debug + Sync {
    /// Returns the name in metric labels and journals.
    fn name(&self) -> &'static str;

    /// Returns the transport of its messages.
    fn transport(&self) -> Transport;

    /// Returns the API of a model server that accepts its requests unchanged.
    fn api(&self) -> Api;

    /// Returns whether its tensors are raw bytes, of which reading and writing look at few.
    fn carries_raw_tensors(&self) -> bool;

    /// Returns the wire format whose bodies are JSON text and which a model server that reads this one reads too;
    /// `None` where no such format exists.
    fn text_format(&self) -> Option<WireFormat>;

    // Requests of clients.

    /// Reads the URL path of an inference request; `None` where the path is not one, or requests have no such path.
    fn read_path(&self, path: &str) -> Option<Address>;

    /// Returns the wire format of a request to the same path that has the header
    /// [`HEADER_LENGTH`](crate::HEADER_LENGTH); `None` where that header has no meaning.
    fn with_header_length(&self) -> Option<WireFormat> {
        None
    }

    /// Returns whether the content of a request with this `header_length` depends on the model's metadata.
    fn rests_on_metadata(&self, _header_length: Option<usize>) -> bool {
        false
    }

    /// Reads a request.
    ///
    /// # Errors
    /// Returns [`ParseError`] where the request is malformed (forward it alone) or exceeds its limits (answer it).
    fn read_request(&self, unread: Unread<'_>) -> Result<InferRequest, ParseError>;

    /// Returns which step of a sequence a request is that [`WireProtocol::read_request`] could not read but that its model
    /// server may understand; `None` where it belongs to no sequence.
    fn sequence_step_of_unread(&self, _header_length: Option<usize>, _body: &Bytes) -> Option<SequenceStep> {
        None
    }

    // Batches for model servers.

    /// Returns the path of a model server for a batch in this wire format.
    fn path(&self, address: &Address) -> String;

    /// Returns the simpler wire format that suits these requests better, where a model server that reads this one
    /// reads that one too.
    fn simpler_format(&self, _requests: &[&InferRequest]) -> Option<WireFormat> {
        None
    }

    /// Writes requests as one body.
    ///
    /// # Errors
    /// Returns [`MergeError`], which names the request to send alone.
    fn write_batch(&self, batch: &Batch<'_>) -> Result<BatchBody, MergeError>;

    /// Writes requests of this wire format whose content is not tensors ([`InferRequest::v1`]) as one body.
    ///
    /// # Errors
    /// Fails as [`WireProtocol::write_batch`] does.
    fn write_text_batch(
        &self,
        _requests: &[&InferRequest],
        _rows: &BatchRows,
    ) -> Result<BatchBody, MergeError> {
        Err(MergeError { index: 0, reason: "the request has no inputs that could be read".into() })
    }

    /// Returns the body of a request of this wire format that can be sent unchanged to a model server that reads `upstream`,
    /// and the wire format of that body. `None` where it must be written anew.
    fn unchanged_batch(
        &self,
        _request: &InferRequest,
        _upstream: WireFormat,
    ) -> Option<(BatchBody, WireFormat)> {
        None
    }

    // Responses of model servers.

    /// Reads the body of a model server's 200 response. `header_length`: the response's
    /// [`HEADER_LENGTH`](crate::HEADER_LENGTH), where it has one.
    ///
    /// # Errors
    /// Returns [`ResponseError`] where the response is not valid.
    fn read_response(
        &self,
        header_length: Option<usize>,
        body: Bytes,
    ) -> Result<InferResponse, ResponseError>;

    // Responses to clients.

    /// Writes the response to one client. `outputs`: the client's rows of each output.
    ///
    /// # Errors
    /// Returns [`PartError`] for an output that this wire format cannot carry.
    fn write_response(
        &self,
        response: &InferResponse,
        request: &InferRequest,
        outputs: &[OutputPart<'_>],
    ) -> Result<ResponsePart, PartError>;

    /// Returns the response to a client whose request [`WireProtocol::unchanged_batch`] sent in the wire format
    /// `sent`: the model server's `body` as it is. `None` where it must be read and written anew.
    fn unchanged_response(
        &self,
        _request: &InferRequest,
        _sent: WireFormat,
        _header_length: Option<usize>,
        _body: &Bytes,
    ) -> Option<ResponsePart> {
        None
    }

    /// Writes the body of an error, which is JSON. Over [`Transport::Grpc`] errors have no body.
    fn error_body(&self, message: &str) -> Bytes {
        json_error(message)
    }
}

/// Transport of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP: the body is the message, and errors are HTTP statuses.
    Rest,
    /// gRPC over HTTP/2: messages have a prefix, and the status is in trailers.
    Grpc,
}

/// An inference API of a model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// TensorFlow Serving's and KServe's V1.
    V1,
    /// The Open Inference Protocol, V2.
    V2,
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct Unread<'a> {
    /// What its path addresses; unused in gRPC, whose messages name the model.
    pub address: &'a Address,
    /// Value of its header [`HEADER_LENGTH`](crate::HEADER_LENGTH), where it has one.
    pub header_length: Option<usize>,
    /// The whole body; of gRPC the message without its 5-byte prefix.
    pub body: Bytes,
    /// Limits that it must not exceed.
    pub limits: &'a Limits,
    /// The model's metadata, where it is known.
    pub signature: Option<&'a ModelSignature>,
}

/// Requests that share a batch, with their inputs side by side.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The first request, for everything that all requests have in common.
    pub(crate) first: &'a InferRequest,
    /// The id, where the batch is a single request.
    pub(crate) id: Option<&'a str>,
    pub(crate) columns: &'a [Column<'a>],
}

/// The body of a batch.
#[derive(Debug)]
pub struct BatchBody {
    pub(crate) chunks: Chunks,
    /// Value of the header [`HEADER_LENGTH`](crate::HEADER_LENGTH); `None` where it must not be sent.
    pub(crate) header_length: Option<usize>,
    pub(crate) content_type: &'static str,
}
