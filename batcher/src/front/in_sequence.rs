//! Finds the sequence that a request is a step of. For other requests this costs one look at their parameters.

use bytes::Bytes;
use http::request::Parts;
use sluice_batch_policy::Asked;
use sluice_protocol::{HEADER_LENGTH, SequenceStep, WireFormat};

use super::Front;
use crate::failure::Failure;
use crate::offload::offload;
use crate::queue::sequence::{InSequence, MAX_NAME_BYTES, SequenceKey};
use crate::queue::{ModelHandle, Work};

impl Front {
    /// Returns which step of a sequence a request is; `None` where it belongs to no sequence.
    ///
    /// # Errors
    /// Fails where the sequence's id or the model's version is too long to be remembered.
    pub(super) async fn in_sequence(
        &self,
        handle: &ModelHandle,
        format: WireFormat,
        work: &Work,
        origin: &Parts,
        tenant: u32,
    ) -> Result<Option<Box<InSequence>>, Failure> {
        let step = match work {
            Work::Parsed(request) => request.sequence_step(),
            Work::Raw(body) => step_of_unread(format, origin, body).await,
        };
        let Some(SequenceStep { id, starts, ends }) = step else { return Ok(None) };
        let version = match work {
            Work::Parsed(request) => request.target.version.clone(),
            Work::Raw(_) => {
                let address = format.protocol().read_path(origin.uri.path());
                address.and_then(|address| address.target.version)
            }
        };
        let version_bytes = version.as_ref().map_or(0, String::len);
        for (what, bytes) in [("sequence_id", id.text_bytes()), ("the model's version", version_bytes)] {
            if bytes > MAX_NAME_BYTES {
                let message = format!("{what} has {bytes} bytes; at most {MAX_NAME_BYTES} are taken");
                return Err(Failure::new(400, message));
            }
        }
        let sole = match self.upstreams.may_have(&handle.model) {
            // All model servers lack the model: the request is sent to one of them, whose error the client gets.
            0 => self.upstreams.members() > 0,
            servers => servers == 1,
        };
        let asked = Asked { starts, ends, tenant, sole };
        Ok(Some(Box::new(InSequence::new(SequenceKey { version, id }, asked))))
    }
}

/// Returns which step of a sequence an unparsed request is; `None` where it belongs to no sequence.
pub(super) async fn step_of_unread(format: WireFormat, head: &Parts, body: &Bytes) -> Option<SequenceStep> {
    let header_length = match head.headers.get(HEADER_LENGTH) {
        None => None,
        Some(length) => Some(length.to_str().ok()?.parse().ok()?),
    };
    let body = body.clone();
    offload(header_length.unwrap_or(body.len()), move || {
        format.protocol().sequence_step_of_unread(header_length, &body)
    })
    .await
}
