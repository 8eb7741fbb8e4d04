//! A V1 `:predict` request: into the same queue as V2 requests for the model.

use http::{Request, Response};
use hyper::body::Incoming;
use sluice_protocol::{V1Target, WireFormat, parse_v1};

use super::Front;
use super::body::FrontBody;
use super::known::NoQueue;
use crate::offload::offload;
use crate::queue::Work;

impl Front {
    /// By rows or by columns.
    pub(super) async fn predict(&self, target: V1Target, request: Request<Incoming>) -> Response<FrontBody> {
        let handle = match self.queue_of(&target.target.model, WireFormat::V1).await {
            Ok(handle) => handle,
            Err(NoQueue::Passes(_)) => return self.pass(request).await,
            Err(NoQueue::Answered(response)) => return *response,
        };
        let (mut parts, body) = request.into_parts();
        let urgency = match self.urgency(&parts.headers) {
            Ok(urgency) => urgency,
            Err(failure) => return self.invalid(&handle, WireFormat::V1, &failure),
        };
        let (body, bytes) = match self.take_in(&handle, WireFormat::V1, &mut parts, body, &urgency).await {
            Ok(received) => received,
            Err(response) => return *response,
        };
        let signature = handle.signature();
        let (copy, limits, read_by) = (body.clone(), self.limits(), signature.clone());
        let parsed = offload(body.len(), move || parse_v1(&target, copy, &limits, read_by.as_deref())).await;
        let work = match parsed {
            Ok(request) => Work::Parsed(request),
            Err(error) if error.is_forwardable() => Work::Raw(body),
            Err(error) => return self.unparsed(&handle, WireFormat::V1, &error),
        };
        self.queue(&handle, WireFormat::V1, (work, signature), Some(parts), urgency, bytes).await
    }
}
