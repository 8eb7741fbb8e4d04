//! Registration v1 service: the name of this plugin and its DRA socket.

use std::path::PathBuf;

use sluice_kubelet_api::registration::v1::registration_server::Registration;
use sluice_kubelet_api::registration::v1::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use sluice_kubelet_api::{DRA_PLUGIN_TYPE, DRA_V1_SERVICE};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// State of the registration: `Err` has the reason why the kubelet cannot prepare claims yet.
pub(crate) type Registered = Result<(), String>;

pub(crate) struct RegistrationService {
    /// Name of the driver.
    pub driver: String,
    /// Absolute path of the DRA socket.
    pub endpoint: PathBuf,
    /// Sender of the state of the registration.
    pub registered: watch::Sender<Registered>,
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: DRA_PLUGIN_TYPE.to_owned(),
            name: self.driver.clone(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec![DRA_V1_SERVICE.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            tracing::info!("The kubelet has registered the driver.");
            // The state may be replaced before anyone reads it, here and below.
            let _ = self.registered.send_replace(Ok(()));
        } else {
            // The kubelet retries when the socket appears again, or when it restarts.
            tracing::error!(error = status.error, "The kubelet refused to register the driver.");
            let refused = format!("the kubelet has refused the driver: {}", status.error);
            let _ = self.registered.send_replace(Err(refused));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
