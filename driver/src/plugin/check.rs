//! Whether the driver does its work: its own sockets are called as the kubelet calls them.

use std::path::Path;
use std::time::Duration;

use sluice_kubelet_api::dra::v1::NodePrepareResourcesRequest;
use sluice_kubelet_api::dra::v1::dra_plugin_client::DraPluginClient;
use sluice_kubelet_api::registration::v1::InfoRequest;
use sluice_kubelet_api::registration::v1::registration_client::RegistrationClient;
use sluice_kubelet_api::{dra_socket, registration_socket};

/// An answer takes no NVML, so it comes at once; probes give up after 5 s.
const DEADLINE: Duration = Duration::from_secs(3);

/// Asks both sockets for something that changes nothing.
///
/// # Errors
/// Names the socket that does not answer.
pub(crate) async fn check(kubelet_dir: &Path, driver: &str) -> Result<(), String> {
    let registration = registration_socket(kubelet_dir, driver);
    in_time(&registration, async {
        let mut client = RegistrationClient::connect(address(&registration)).await.map_err(text)?;
        client.get_info(InfoRequest {}).await.map(drop).map_err(text)
    })
    .await?;
    let dra = dra_socket(kubelet_dir, driver);
    in_time(&dra, async {
        let mut client = DraPluginClient::connect(address(&dra)).await.map_err(text)?;
        let nothing = NodePrepareResourcesRequest { claims: Vec::new() };
        client.node_prepare_resources(nothing).await.map(drop).map_err(text)
    })
    .await
}

async fn in_time(socket: &Path, call: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let answer = tokio::time::timeout(DEADLINE, call).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs())));
    answer.map_err(|error| format!("socket {} does not answer: {error}", socket.display()))
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_not_served_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(dir.path(), "gpu.sluice.dev").await.unwrap_err();
        assert!(error.contains("gpu.sluice.dev-reg.sock does not answer"), "{error}");
    }
}
