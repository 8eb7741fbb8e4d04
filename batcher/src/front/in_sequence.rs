//! Which sequence a request is a step of. Other requests cost no more than a look at their parameters.

use bytes::Bytes;
use http::request::Parts;
use sluice_batch_policy::Asked;
use sluice_protocol::{HEADER_LENGTH, SequenceStep, Target, WireFormat};

use super::Front;
use crate::failure::Failure;
use crate::offload::offload;
use crate::queue::sequence::{InSequence, MAX_NAME_BYTES, SequenceKey};
use crate::queue::{ModelHandle, Work};

impl Front {
    /// Returns the step that a request is; `None` for a request of no sequence.
    ///
    /// # Errors
    /// A name that is too long to be remembered.
    pub(super) async fn in_sequence(
        &self,
        handle: &ModelHandle,
        form: WireFormat,
        work: &Work,
        origin: Option<&Parts>,
        tenant: u32,
    ) -> Result<Option<Box<InSequence>>, Failure> {
        let step = match work {
            Work::Parsed(request) => request.sequence_step(),
            Work::Raw(body) if matches!(form, WireFormat::Json | WireFormat::Binary) => match origin {
                Some(head) => step_of_unread(head, body).await,
                None => None,
            },
            Work::Raw(_) => None,
        };
        let Some(SequenceStep { id, starts, ends }) = step else { return Ok(None) };
        let version = match work {
            Work::Parsed(request) => request.target.version.clone(),
            Work::Raw(_) => origin.and_then(|head| Target::from_path(head.uri.path())?.version),
        };
        let version_bytes = version.as_ref().map_or(0, String::len);
        for (what, bytes) in [("sequence_id", id.text_bytes()), ("the model's version", version_bytes)] {
            if bytes > MAX_NAME_BYTES {
                let message = format!("{what} has {bytes} bytes; at most {MAX_NAME_BYTES} are taken");
                return Err(Failure::new(400, message));
            }
        }
        let sole = match self.upstreams.may_have(&handle.model) {
            // All say that they lack the model: one of them is to say so to the client.
            0 => self.upstreams.members() > 0,
            servers => servers == 1,
        };
        let asked = Asked { starts, ends, tenant, sole };
        Ok(Some(Box::new(InSequence::new(SequenceKey { version, id }, asked))))
    }
}

/// Returns the step that a REST request of V2 is that was not understood here; `None` where it is none.
pub(super) async fn step_of_unread(head: &Parts, body: &Bytes) -> Option<SequenceStep> {
    let json = match head.headers.get(HEADER_LENGTH) {
        None => body.clone(),
        Some(length) => {
            let length: usize = length.to_str().ok()?.parse().ok()?;
            (length <= body.len()).then(|| body.slice(..length))?
        }
    };
    offload(json.len(), move || SequenceStep::of_unread(&json)).await
}
