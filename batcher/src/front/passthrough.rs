//! Requests that the batcher neither answers nor merges: they are passed on unchanged, and both bodies are streamed. They
//! wait for the barrier as inferences do, because these paths may be inferences too (chat, generate, `:predict`).

use std::time::Duration;

use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use sluice_protocol::WireFormat;

use super::Front;
use super::body::FrontBody;
use super::infer::declares_more_than;
use super::relayed::Relayed;
use super::transport::failed;
use crate::failure::Failure;
use crate::forward::{to_client, to_http1};
use crate::upload::UploadError;
use crate::upstream::ConnectError;
use crate::upstream::relay::RelayError;

impl Front {
    /// Passes a request on over HTTP/1.1.
    pub(super) async fn pass(&self, request: Request<Incoming>) -> Response<FrontBody> {
        if let Some(other) = other_protocol(&request) {
            let message = format!("{other} does not pass through; connect to the model server itself for it");
            return failed(WireFormat::Json, &Failure::new(501, message));
        }
        if declares_more_than(&request, self.settings.now().limits.max_body_bytes) {
            let message = format!(
                "the body has more than {} bytes (maxBodyBytes)",
                self.settings.now().limits.max_body_bytes
            );
            return failed(WireFormat::Json, &Failure::new(413, message));
        }
        let (mut parts, body) = request.into_parts();
        // The memory that was reserved for the request is released when the response begins.
        let (named, body, _share) = match self.named_by(&parts, body).await {
            Ok(named) => named,
            Err(failure) => return failed(WireFormat::Json, &failure),
        };
        let (upstream, epoch, guard) = match self.models.pick_for(named.as_ref()).await {
            Ok(picked) => picked,
            Err(failure) => return failed(WireFormat::Json, &failure),
        };
        to_http1(&mut parts);
        let body = body.into_body(Duration::from_millis(self.settings.now().timeouts.body_timeout_ms));
        match upstream.relay(&epoch, Request::from_parts(parts, body)).await {
            Ok((response, hang_up)) => {
                let (mut parts, body) = response.into_parts();
                to_client(&mut parts);
                Response::from_parts(
                    parts,
                    FrontBody::Stream(Box::new(Relayed::new(body, guard, Some(hang_up)))),
                )
            }
            Err(error) => failed(WireFormat::Json, &not_passed(&error)),
        }
    }

    /// Passes a gRPC request on over HTTP/2.
    pub(super) async fn pass_grpc(&self, request: Request<Incoming>) -> Response<FrontBody> {
        let (named, request, _share) = match self.named_by_grpc(request).await {
            Ok(named) => named,
            Err(failure) => return failed(WireFormat::Grpc, &failure),
        };
        let (upstream, epoch, guard) = match self.models.pick_for(named.as_ref()).await {
            Ok(picked) => picked,
            Err(failure) => return failed(WireFormat::Grpc, &failure),
        };
        match upstream.relay_grpc(&epoch, request).await {
            Ok((response, hang_up)) => {
                let (mut parts, body) = response.into_parts();
                to_client(&mut parts);
                let body = Relayed::new(body, guard, Some(hang_up));
                Response::from_parts(parts, FrontBody::Stream(Box::new(body)))
            }
            Err(error) => failed(WireFormat::Grpc, &not_passed(&error)),
        }
    }
}

/// Returns the protocol that a request wants to change its connection to; `None` where it asks for no change. Other upgrades than
/// these are offers that may be ignored, so the request continues as HTTP.
fn other_protocol(request: &Request<Incoming>) -> Option<&'static str> {
    let upgrade = request.headers().get(header::UPGRADE);
    if request.method() == Method::CONNECT {
        Some("CONNECT")
    } else if upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        Some("a websocket")
    } else {
        None
    }
}

pub(super) fn not_passed(error: &RelayError) -> Failure {
    let status = match error {
        RelayError::Connect(ConnectError::NoHttp) => 501,
        RelayError::Connect(_) => 503,
        RelayError::Interim(_) | RelayError::Head(_) => 502,
        RelayError::Broken(broken) => match UploadError::failure(broken) {
            Some(clients_own) => return clients_own,
            None => 502,
        },
    };
    Failure::new(status, error.to_string())
}
