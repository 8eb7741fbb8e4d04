//! Liveness check of the driver: calls its own sockets as the kubelet does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_kubelet_api::dra::v1::NodePrepareResourcesRequest;
use sluice_kubelet_api::dra::v1::dra_plugin_client::DraPluginClient;
use sluice_kubelet_api::registration::v1::InfoRequest;
use sluice_kubelet_api::registration::v1::registration_client::RegistrationClient;
use sluice_kubelet_api::{dra_socket, registration_socket};

/// Time limit of each call. The calls do not use NVML, so they are fast; probes give up after 5 s.
const DEADLINE: Duration = Duration::from_secs(3);

/// Error: a socket does not respond.
#[derive(Debug, thiserror::Error)]
#[error("socket {socket} does not answer: {source}", socket = socket.display())]
pub(crate) struct CheckError {
    socket: PathBuf,
    source: CallError,
}

/// Reason why a call failed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Connect(#[from] tonic::transport::Error),
    #[error(transparent)]
    Status(#[from] tonic::Status),
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
}

/// Calls both sockets in a way that changes nothing.
///
/// # Errors
/// Names the socket that does not respond.
pub(crate) async fn check(kubelet_dir: &Path, driver: &str) -> Result<(), CheckError> {
    let registration = registration_socket(kubelet_dir, driver);
    in_time(&registration, async {
        let mut client = RegistrationClient::connect(address(&registration)).await?;
        client.get_info(InfoRequest {}).await?;
        Ok(())
    })
    .await?;
    let dra = dra_socket(kubelet_dir, driver);
    in_time(&dra, async {
        let mut client = DraPluginClient::connect(address(&dra)).await?;
        let nothing = NodePrepareResourcesRequest { claims: Vec::new() };
        client.node_prepare_resources(nothing).await?;
        Ok(())
    })
    .await
}

async fn in_time(socket: &Path, call: impl Future<Output = Result<(), CallError>>) -> Result<(), CheckError> {
    let answer = tokio::time::timeout(DEADLINE, call).await;
    answer.unwrap_or(Err(CallError::Late)).map_err(|source| CheckError { socket: socket.to_owned(), source })
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_not_served_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(dir.path(), "gpu.sluice.dev").await.unwrap_err().to_string();
        assert!(error.contains("gpu.sluice.dev-reg.sock does not answer"), "{error}");
    }
}
