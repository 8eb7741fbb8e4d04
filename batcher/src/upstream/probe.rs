//! Probes of the model server on behalf of the kubelet: the model server listens on the loopback interface, which only
//! the sidecar can reach. Each probe opens a new connection; no result is remembered.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::timeout;

use super::connection::Wire;
use super::control::{ControlConnection, ControlEndpoint, ControlError};

/// Path of the liveness question in the Open Inference Protocol.
pub const LIVE_PATH: &str = "/v2/health/live";
/// Longest time of a probe; the kubelet's own timeout should be shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// Result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// The model server answered with this status.
    Answered(StatusCode),
    /// No process listens: the model server is starting, or its container has ended, which the kubelet notices itself.
    NobodyListens(String),
    /// A process listens, but there is no answer.
    Silent(String),
}

impl Probed {
    /// Checks liveness: fails if the model server answers with an error or does not answer. A server that does not
    /// listen yet counts as alive, so that the kubelet does not kill it.
    pub fn is_live(&self) -> Result<(), String> {
        match self {
            Self::NobodyListens(_) => Ok(()),
            _ => self.is_started(),
        }
    }

    /// Checks startup: fails unless the model server answers with success or a redirection.
    pub fn is_started(&self) -> Result<(), String> {
        match self {
            Self::Answered(status) if status.is_success() || status.is_redirection() => Ok(()),
            Self::Answered(status) => Err(format!("the model server answered {status}")),
            Self::NobodyListens(why) | Self::Silent(why) => Err(why.clone()),
        }
    }
}

/// Probes the model server at `path`; without a path, only checks that it accepts a connection. A server that speaks
/// only gRPC has no paths, so it is asked the liveness question.
pub async fn probe(address: &str, wire: Wire, headers: &HeaderMap, path: Option<&str>) -> Probed {
    let answer = async {
        let mut control =
            ControlConnection::open(ControlEndpoint::resolve(wire, address, headers).await?).await?;
        match path {
            Some(path) => control.status(path).await,
            None => Ok(StatusCode::OK),
        }
    };
    match timeout(PATIENCE, answer).await {
        Ok(Ok(status)) => Probed::Answered(status),
        Ok(Err(error @ (ControlError::Refused(..) | ControlError::Unresolved(..)))) => {
            Probed::NobodyListens(error.to_string())
        }
        Ok(Err(error)) => Probed::Silent(error.to_string()),
        Err(_) => Probed::Silent(format!("the model server did not answer within {PATIENCE:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_server_that_does_not_listen_yet_lives_and_has_not_started() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let probed = probe(&free, Wire::Rest, &HeaderMap::new(), Some(LIVE_PATH)).await;
        assert!(matches!(probed, Probed::NobodyListens(_)), "{probed:?}");
        assert!(probed.is_live().is_ok() && probed.is_started().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_keeps_silent_does_not_live() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let probed = probe(&address, Wire::Rest, &HeaderMap::new(), Some(LIVE_PATH)).await;
        assert!(matches!(probed, Probed::Silent(_)), "{probed:?}");
        assert!(probed.is_live().is_err());
        assert_eq!(probe(&address, Wire::Rest, &HeaderMap::new(), None).await.is_started(), Ok(()));
    }

    #[test]
    fn any_status_but_success_and_redirection_is_a_no() {
        let answered = |status| Probed::Answered(status);
        assert!(answered(StatusCode::FOUND).is_live().is_ok());
        let why = answered(StatusCode::SERVICE_UNAVAILABLE).is_live().unwrap_err();
        assert!(why.contains("503"), "{why}");
    }
}
