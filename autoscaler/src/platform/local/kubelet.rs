//! Takes the kubelet's role towards a DRA driver: finds it by its registration socket, prepares and unprepares claims on
//! the endpoint that it names.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use sluice_kubelet_api::dra::v1::dra_plugin_client::DraPluginClient;
use sluice_kubelet_api::dra::v1::{Claim, NodePrepareResourcesRequest, NodeUnprepareResourcesRequest};
use sluice_kubelet_api::registration::v1::registration_client::RegistrationClient;
use sluice_kubelet_api::registration::v1::{InfoRequest, PluginInfo, RegistrationStatus};
use sluice_kubelet_api::{CALL_TIMEOUT_SECONDS, DRA_PLUGIN_TYPE, DRA_V1_SERVICE, registration_socket};
use tonic::transport::{Channel, Endpoint};

/// Time limit of a call to a registration socket.
const INFO_TIMEOUT: Duration = Duration::from_secs(5);

/// Reason why a claim was not prepared or unprepared.
#[derive(Debug, thiserror::Error)]
pub(super) enum KubeletError {
    /// No plugin of the driver answers.
    #[error("no DRA plugin of driver {driver} answers in {dir}; is sluice-driver running?")]
    NoPlugin {
        /// Name of the driver.
        driver: String,
        /// Directory of registration sockets.
        dir: String,
    },
    /// The plugin serves no version that is supported here.
    #[error("driver {driver} serves {versions:?}, but {DRA_V1_SERVICE} is needed; use a newer driver")]
    Version {
        /// Name of the driver.
        driver: String,
        /// Versions that it serves.
        versions: Vec<String>,
    },
    /// The call failed.
    #[error("driver {driver} at {endpoint}: {message}")]
    Call {
        /// Name of the driver.
        driver: String,
        /// Its DRA socket.
        endpoint: String,
        /// Error message.
        message: String,
    },
    /// The driver refused the claim.
    #[error("driver {driver} refused claim {claim}: {message}")]
    Refused {
        /// Name of the driver.
        driver: String,
        /// `namespace/name`.
        claim: String,
        /// Message of the driver.
        message: String,
    },
}

/// A claim as the protocol names it.
#[derive(Debug, Clone)]
pub(super) struct ClaimRef {
    /// Name of its driver.
    pub driver: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl ClaimRef {
    fn message(&self) -> Claim {
        Claim { namespace: self.namespace.clone(), uid: self.uid.clone(), name: self.name.clone() }
    }
}

/// Client of the DRA drivers below one kubelet directory.
#[derive(Debug)]
pub(super) struct Kubelet {
    dir: PathBuf,
    /// DRA sockets of registered drivers, by driver name; forgotten when a call fails.
    endpoints: Mutex<HashMap<String, PathBuf>>,
}

impl Kubelet {
    /// Creates a client of the drivers with sockets below `kubelet_dir`.
    pub(super) fn new(kubelet_dir: &Path) -> Self {
        Self { dir: kubelet_dir.to_owned(), endpoints: Mutex::default() }
    }

    /// Prepares a claim and returns the CDI ids of its devices. May be called again for a prepared claim.
    /// Any error may pass with time.
    pub(super) async fn prepare(&self, claim: &ClaimRef) -> Result<Vec<String>, KubeletError> {
        let (mut client, endpoint) = self.client(&claim.driver).await?;
        let request = NodePrepareResourcesRequest { claims: vec![claim.message()] };
        let response = client.node_prepare_resources(request).await;
        let response =
            response.map_err(|status| self.failed(&claim.driver, &endpoint, &status))?.into_inner();
        match response.claims.get(&claim.uid) {
            Some(answer) if answer.error.is_empty() => {
                Ok(answer.devices.iter().flat_map(|device| device.cdi_device_ids.iter().cloned()).collect())
            }
            answer => Err(refused(claim, answer.map(|answer| answer.error.as_str()))),
        }
    }

    /// Undoes the preparation; a claim that is not prepared is no error.
    /// Any error may pass with time.
    pub(super) async fn unprepare(&self, claim: &ClaimRef) -> Result<(), KubeletError> {
        let (mut client, endpoint) = self.client(&claim.driver).await?;
        let request = NodeUnprepareResourcesRequest { claims: vec![claim.message()] };
        let response = client.node_unprepare_resources(request).await;
        let response =
            response.map_err(|status| self.failed(&claim.driver, &endpoint, &status))?.into_inner();
        match response.claims.get(&claim.uid) {
            Some(answer) if answer.error.is_empty() => Ok(()),
            answer => Err(refused(claim, answer.map(|answer| answer.error.as_str()))),
        }
    }

    async fn client(&self, driver: &str) -> Result<(DraPluginClient<Channel>, PathBuf), KubeletError> {
        let known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).get(driver).cloned();
        let endpoint = match known {
            Some(endpoint) => endpoint,
            None => {
                let endpoint = self.register(driver).await?;
                let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
                endpoints.insert(driver.to_owned(), endpoint.clone());
                endpoint
            }
        };
        let channel = connect(&endpoint, Duration::from_secs(CALL_TIMEOUT_SECONDS))
            .await
            .map_err(|error| self.forget(driver, &endpoint, error.to_string()))?;
        Ok((DraPluginClient::new(channel), endpoint))
    }

    /// Asks every registration socket for its driver, the one with the usual name first, and accepts the driver.
    async fn register(&self, driver: &str) -> Result<PathBuf, KubeletError> {
        let usual = registration_socket(&self.dir, driver);
        let registry = usual.parent().unwrap_or(&self.dir).to_owned();
        let mut sockets: Vec<PathBuf> = match fs::read_dir(&registry) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        sockets.retain(|socket| socket.extension().is_some_and(|extension| extension == "sock"));
        sockets.sort_by_key(|socket| *socket != usual);
        for socket in sockets {
            let Ok(channel) = connect(&socket, INFO_TIMEOUT).await else { continue };
            let mut registration = RegistrationClient::new(channel);
            let Ok(info) = registration.get_info(InfoRequest {}).await else { continue };
            let info: PluginInfo = info.into_inner();
            if info.r#type != DRA_PLUGIN_TYPE || info.name != driver {
                continue;
            }
            let speaks = info.supported_versions.iter().any(|version| version == DRA_V1_SERVICE);
            let error = if speaks { String::new() } else { format!("{DRA_V1_SERVICE} is needed") };
            let verdict = RegistrationStatus { plugin_registered: speaks, error };
            if let Err(status) = registration.notify_registration_status(verdict).await {
                tracing::warn!(driver, %status, "A DRA plugin did not acknowledge its registration.");
            }
            if !speaks {
                return Err(KubeletError::Version {
                    driver: driver.to_owned(),
                    versions: info.supported_versions,
                });
            }
            tracing::info!(driver, endpoint = info.endpoint, "A DRA plugin is registered.");
            return Ok(PathBuf::from(info.endpoint));
        }
        Err(KubeletError::NoPlugin { driver: driver.to_owned(), dir: registry.display().to_string() })
    }

    fn failed(&self, driver: &str, endpoint: &Path, status: &tonic::Status) -> KubeletError {
        self.forget(driver, endpoint, format!("{:?}: {}", status.code(), status.message()))
    }

    /// Forgets the endpoint, because a driver that was replaced may have another one. Returns the error of the call.
    fn forget(&self, driver: &str, endpoint: &Path, message: String) -> KubeletError {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).remove(driver);
        let endpoint = endpoint.display().to_string();
        KubeletError::Call { driver: driver.to_owned(), endpoint, message }
    }
}

/// Returns the error of a refused claim. `answer` is the driver's message; `None` = the response lacks the claim.
fn refused(claim: &ClaimRef, answer: Option<&str>) -> KubeletError {
    KubeletError::Refused {
        driver: claim.driver.clone(),
        claim: format!("{}/{}", claim.namespace, claim.name),
        message: answer.unwrap_or("the answer does not mention the claim").to_owned(),
    }
}

async fn connect(socket: &Path, timeout: Duration) -> anyhow::Result<Channel> {
    Endpoint::from_shared(format!("unix://{}", socket.display()))?
        .connect_timeout(timeout)
        .timeout(timeout)
        .connect()
        .await
        .map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => anyhow!("{error}: {cause}"),
            None => error.into(),
        })
}
