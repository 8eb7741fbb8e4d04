//! `LocalDeployment`: model-server processes on one machine, each with a claimed slice, behind one gateway.
//! It is what a Deployment is in a cluster; no cluster ever sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;
use super::within::within;

/// How one replica runs.
#[derive(Debug, Clone, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "LocalDeployment",
    plural = "localdeployments",
    namespaced
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalDeploymentSpec {
    /// Program and arguments; `{port}` stands for the loopback port that the replica must listen on and
    /// `{name}` for its name.
    pub command: Vec<String>,
    /// Environment beside that of the claimed device, which wins.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What each replica claims.
    pub claim: ClaimTemplate,
    /// When a replica has loaded.
    #[serde(default)]
    pub readiness: Readiness,
    /// How replicas end.
    #[serde(default)]
    pub termination: Termination,
    /// The batcher in front of the replicas.
    pub gateway: GatewayRef,
}

/// The claim of each replica: one device of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimTemplate {
    /// A DeviceClass, e.g. `mig-2g-10gb.gpu.sluice.dev`.
    pub device_class_name: String,
}

/// HTTP readiness of a model server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Readiness {
    /// Answers 200 when the model is loaded.
    pub path: String,
    /// A replica that has not loaded by then is started anew.
    pub timeout_seconds: u32,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { path: "/v2/health/ready".to_owned(), timeout_seconds: 300 }
    }
}

/// How long a replica may take to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Termination {
    /// Longest wait for the gateway to drain the replica.
    pub drain_seconds: u32,
    /// Time between SIGTERM and SIGKILL.
    pub grace_seconds: u32,
}

impl Default for Termination {
    fn default() -> Self {
        Self { drain_seconds: 30, grace_seconds: 10 }
    }
}

/// Where the gateway is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayRef {
    /// File that the gateway watches for its upstreams.
    pub members_file: PathBuf,
    /// The gateway's admin port, e.g. `http://127.0.0.1:9901`.
    pub admin_url: String,
}

/// So that the object can lie in an [`crate::objects::ObjectDir`] beside Kubernetes' own kinds.
impl k8s_openapi::Resource for LocalDeployment {
    const API_VERSION: &'static str = "sluice.dev/v1alpha1";
    const GROUP: &'static str = "sluice.dev";
    const KIND: &'static str = "LocalDeployment";
    const VERSION: &'static str = "v1alpha1";
    const URL_PATH_SEGMENT: &'static str = "localdeployments";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl LocalDeploymentSpec {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err("spec.command is empty, but must name a program".to_owned());
        }
        if !self.command.iter().any(|argument| argument.contains("{port}")) {
            return Err(
                "spec.command has no `{port}`: the model server must be told where to listen".to_owned()
            );
        }
        // They become arguments, environment, paths of requests and names in claims.
        if self.command.iter().any(|argument| argument.contains('\0')) {
            return Err(
                "spec.command has an argument with a NUL character, which no program can get".to_owned()
            );
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(format!(
                    "spec.env has {:?}, but names must not be empty or have '=', and neither names nor values NUL",
                    name.chars().take(64).collect::<String>()
                ));
            }
        }
        let class = &self.claim.device_class_name;
        let allowed = "a name of a-z, 0-9, '-' and '.'";
        text::check("claim.deviceClassName", class, text::MOST_NAME, text::is_name, allowed)?;
        let allowed = "a path that begins with /, such as /v2/health/ready, without spaces";
        text::check("readiness.path", &self.readiness.path, 1024, is_path, allowed)?;
        let allowed = "a URL such as http://127.0.0.1:8081";
        text::check("gateway.adminUrl", &self.gateway.admin_url, 1024, is_http_url, allowed)?;
        within("spec.readiness.timeoutSeconds", self.readiness.timeout_seconds, 1, 21_600)?;
        within("spec.termination.drainSeconds", self.termination.drain_seconds, 0, 3600)?;
        within("spec.termination.graceSeconds", self.termination.grace_seconds, 0, 3600)?;
        if self.gateway.members_file.as_os_str().is_empty() {
            return Err("spec.gateway.membersFile is empty, but must name the file that the gateway watches"
                .to_owned());
        }
        let address = self.gateway.admin_url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let port = address.and_then(|address| address.rsplit_once(':')).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(format!(
                "spec.gateway.adminUrl is {:?}, but must be the gateway's admin port, such as http://127.0.0.1:8081",
                self.gateway.admin_url
            ));
        }
        Ok(())
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic())
}

fn is_http_url(text: &str) -> bool {
    let host = text.strip_prefix("http://");
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        && text.chars().all(|c| c.is_ascii_graphic())
}
