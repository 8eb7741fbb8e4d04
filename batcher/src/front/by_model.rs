//! Finds the model that a passed-on request names, which decides the model servers that may get the request. With a
//! single model server there is no choice, and the request is not looked into.

use http::request::Parts;
use http::{Method, Request};
use hyper::body::Incoming;
use sluice_protocol::{WireFormat, model_in_path};

use super::Front;
use super::bodies::peek::Peeked;
use super::control_paths::{message_decides, sets};
use super::in_sequence::step_of_unread;
use super::route::GRPC_SERVICE;
use crate::failure::Failure;
use crate::media_type;
use crate::offload::offload;
use crate::queue::bytes::QueuedBytes;
use crate::retry_after::RetryAfter;
use crate::streams::asked::Asked;
use crate::upstream::choice::Named;
use crate::upstream::relay_body::RelayBody;

impl Front {
    /// Returns the model that an HTTP request names, in its path or in a JSON body of OpenAI's API, with the body and the
    /// memory that was reserved for reading it.
    ///
    /// # Errors
    /// Fails where the request is a step of a sequence, which cannot be kept at one model server without a queue, or where
    /// its body cannot be read.
    pub(super) async fn named_by(
        &self,
        parts: &Parts,
        body: Incoming,
    ) -> Result<(Option<Named>, Peeked, QueuedBytes), Failure> {
        if self.upstreams.members() <= 1 {
            return Ok((None, Peeked::Part(Vec::new(), body), self.bodies.memory.empty(None)));
        }
        let path = parts.uri.path();
        let model = model_in_path(path);
        // An inference is passed on where its model has no queue.
        let infers = path.ends_with("/infer");
        if !infers && (model.is_some() || !may_name_its_model(parts)) {
            return Ok((
                model.map(Named::Model),
                Peeked::Part(Vec::new(), body),
                self.bodies.memory.empty(None),
            ));
        }
        let (body, share) =
            self.bodies.peek(body).await.map_err(|error| error.failure(|| RetryAfter::UNPREDICTED))?;
        if infers
            && let Some(whole) = body.whole()
            && let Some(step) = step_of_unread(WireFormat::Json, parts, whole).await
        {
            let message = format!(
                "sequence {}: its model has no queue here, and so its steps cannot be kept at one of several model servers (maxModels is reached, or no model server says that it has the model)",
                step.id
            );
            return Err(Failure::new(501, message));
        }
        let named = match (model, body.whole().cloned()) {
            (Some(model), _) => Some(Named::Model(model)),
            (None, Some(whole)) => {
                let asked = offload(whole.len(), move || Asked::read(&whole)).await;
                asked.model.map(Named::Alias)
            }
            (None, None) => None,
        };
        Ok((named, body, share))
    }

    /// Returns the model that a gRPC request names in its first message, with the request and the memory that was reserved
    /// for reading it.
    ///
    /// # Errors
    /// Fails where the call changes one of several model servers, or where it continues a sequence that began on another
    /// stream.
    pub(super) async fn named_by_grpc(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Option<Named>, Request<RelayBody<Incoming>>, QueuedBytes), Failure> {
        let mut share = self.bodies.memory.empty(None);
        if self.upstreams.members() <= 1 {
            return Ok((None, request.map(RelayBody::from), share));
        }
        let path = request.uri().path();
        let asks_a_model = path.strip_prefix(GRPC_SERVICE).is_some_and(|method| method.starts_with("Model"));
        let may_set = message_decides(path);
        if !asks_a_model && !may_set {
            return Ok((None, request.map(RelayBody::from), share));
        }
        let (parts, body) = request.into_parts();
        let (head, body) = self
            .bodies
            .peek_grpc(&parts.headers, body, &mut share)
            .await
            .map_err(|error| error.failure(|| RetryAfter::UNPREDICTED))?;
        if may_set
            && sets(head.as_ref())
            && let Some(refused) = self.refused_change()
        {
            return Err(refused);
        }
        let head = head.unwrap_or_default();
        let goes_on = head.sequence_step().filter(|step| !step.starts);
        let model = if asks_a_model { head.first } else { head.second };
        let model = model.filter(|model| !model.is_empty());
        if let (Some(step), Some(model)) = (goes_on, &model)
            && self.upstreams.may_have(model) > 1
        {
            let message = format!(
                "sequence {}: a stream goes to one model server from its first message on, and it is not known here which one has this sequence; begin it anew on this stream (sequence_start)",
                step.id
            );
            return Err(Failure::new(409, message));
        }
        Ok((model.map(Named::Model), Request::from_parts(parts, body), share))
    }
}

/// Returns whether the body may name the model as in OpenAI's API.
fn may_name_its_model(parts: &Parts) -> bool {
    let path = parts.uri.path();
    parts.method == Method::POST
        && media_type::is(&parts.headers, "application/json")
        && path.strip_prefix("/openai").unwrap_or(path).starts_with("/v1/")
}
