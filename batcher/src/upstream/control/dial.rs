//! Connects to a model server in the protocol that the settings name, or finds out by asking which one it speaks.

use http::HeaderMap;

use super::{ControlConnection, ControlEndpoint, ControlError};
use crate::settings::{FormSetting, Member};
use crate::upstream::connection::Wire;

impl ControlConnection {
    /// Connects to a member and asks whether it is ready. With `auto`, tries HTTP/1.1 first, then gRPC.
    ///
    /// # Errors
    /// See [`ControlError`]. A server that refuses the connection is tried only once.
    pub async fn dial(
        member: &Member,
        form: FormSetting,
        own_headers: &HeaderMap,
    ) -> Result<(Self, bool), ControlError> {
        if form == FormSetting::Grpc || member.is_grpc_only() {
            return ask(Wire::Grpc, member.grpc(), own_headers).await;
        }
        let rest = match ask(Wire::Rest, &member.address, own_headers).await {
            Err(error @ (ControlError::Broken(_) | ControlError::Timeout(..)))
                if form == FormSetting::Auto =>
            {
                error
            }
            other => return other,
        };
        let found = match ask(Wire::Grpc, &member.address, own_headers).await {
            Err(grpc) => return Err(ControlError::Neither { rest: Box::new(rest), grpc: Box::new(grpc) }),
            Ok(found) => found,
        };
        // A server that speaks both may have started between the two questions.
        match ask(Wire::Rest, &member.address, own_headers).await {
            Err(ControlError::Broken(_) | ControlError::Timeout(..)) => Ok(found),
            other => other,
        }
    }

    /// Returns whether a server at this address answers over gRPC that it is ready.
    pub async fn speaks_grpc(address: &str, own_headers: &HeaderMap) -> bool {
        matches!(ask(Wire::Grpc, address, own_headers).await, Ok((_, true)))
    }
}

async fn ask(
    wire: Wire,
    address: &str,
    own_headers: &HeaderMap,
) -> Result<(ControlConnection, bool), ControlError> {
    let mut control =
        ControlConnection::open(ControlEndpoint::resolve(wire, address, own_headers).await?).await?;
    let is_ready = control.is_ready().await?;
    Ok((control, is_ready))
}
