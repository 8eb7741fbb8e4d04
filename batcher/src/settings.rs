//! Settings of the batcher, and what makes them valid.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sluice_config::process::logging::LogFormat;

/// Where the batcher stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Beside one model server.
    #[default]
    Sidecar,
    /// In front of several model servers, whose number may be zero and may change.
    Gateway,
}

/// In which form batches are sent to the model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FormSetting {
    /// Binary where `GET /v2` lists the extension `binary_tensor_data`, else JSON.
    #[default]
    Auto,
    /// V2 REST, JSON alone.
    Json,
    /// V2 REST with the binary tensor extension.
    Binary,
}

/// Whether dimension 0 is the batch dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Batching {
    /// Yes where the model's metadata says so: all inputs have -1 first.
    #[default]
    Auto,
    /// Yes, whatever the metadata says.
    On,
    /// No: requests go to the model server one by one.
    Off,
}

/// Where warm-up bodies come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Warmup {
    /// Zeros of the shapes in the model's metadata (or `warmupBodies` where a model is named there).
    #[default]
    Metadata,
    /// None: the barrier opens as soon as the model server is ready.
    Off,
}

/// One model server of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// Name in logs, metrics and `/upstreams`; unique.
    pub name: String,
    /// `host:port` of its HTTP port.
    pub address: String,
    /// `host:port` of its gRPC port, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_address: Option<String>,
}

/// Everything that can be set. No setting names the model's speed: that is learned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Sidecar or gateway.
    pub role: Role,
    /// Front port: HTTP/1.1, h2c and gRPC.
    pub listen: SocketAddr,
    /// Admin port.
    pub admin_listen: SocketAddr,
    /// Sidecar: `host:port` of the model server.
    pub upstream: Option<String>,
    /// Sidecar: `host:port` of its gRPC port, where that is another one.
    pub upstream_grpc: Option<String>,
    /// Gateway: the model servers, where their number is fixed.
    pub upstreams: Vec<Member>,
    /// Gateway: file with the model servers, read again when it changes.
    pub members: Option<PathBuf>,
    /// Models that must be warm before the batcher is ready. Others are warmed at their first request.
    pub models: Vec<String>,
    /// Most models that get a queue; requests for more pass through unmerged.
    pub max_models: usize,
    /// Latency objective: the deadline of requests without one of their own, and the basis of the batch size.
    pub objective_ms: u64,
    /// Most rows of a batch.
    pub max_batch_rows: u32,
    /// Sizes that a batch may have, where not all up to `maxBatchRows`; 1 is always allowed.
    pub allowed_batch_rows: Vec<u32>,
    /// Batches that one model server runs at a time.
    pub slots_per_upstream: usize,
    /// Requests that may wait, per model, beyond those of the next two batches. Full means 429.
    pub queue_requests: usize,
    /// Bytes of waiting and running requests together. Full means 429.
    pub queue_bytes: usize,
    /// Most bytes of one request's body, and of one upstream answer.
    pub max_body_bytes: usize,
    /// How long requests are held while no model server is ready; then 503.
    pub hold_ms: u64,
    /// How often a request is sent again after a connection broke in mid-flight.
    pub retries: u32,
    /// How long a model server may take for one batch; then 504.
    pub upstream_timeout_ms: u64,
    /// Form of batches.
    pub upstream_form: FormSetting,
    /// Whether to merge.
    pub batching: Batching,
    /// Whether and how to warm up.
    pub warmup: Warmup,
    /// Folder with warm-up bodies: `<model>.<rows>.json`, V2 JSON requests of so many rows.
    pub warmup_bodies: Option<PathBuf>,
    /// Most calls per batch size until its time must have become stable.
    pub warmup_max_calls: u32,
    /// How often a model server's identity is checked.
    pub probe_ms: u64,
    /// How long it takes until nobody sends here any more once this process is not ready: a drain waits for so
    /// long a silence, and after SIGTERM connections are accepted for so long.
    pub propagation_ms: u64,
    /// After SIGTERM: how long requests may take to finish, and the default deadline of `/drain`.
    pub drain_deadline_ms: u64,
    /// What `/drain?token=` must say; without it, whoever reaches the admin port may drain.
    pub drain_token: Option<String>,
    /// Threads for requests; 0: one per core.
    pub worker_threads: usize,
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// Log filter.
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            role: Role::Sidecar,
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            upstream: None,
            upstream_grpc: None,
            upstreams: Vec::new(),
            members: None,
            models: Vec::new(),
            max_models: 64,
            objective_ms: 1000,
            max_batch_rows: 64,
            allowed_batch_rows: Vec::new(),
            slots_per_upstream: 1,
            queue_requests: 4096,
            queue_bytes: 256 << 20,
            max_body_bytes: 64 << 20,
            hold_ms: 30_000,
            retries: 2,
            upstream_timeout_ms: 30_000,
            upstream_form: FormSetting::Auto,
            batching: Batching::Auto,
            warmup: Warmup::Metadata,
            warmup_bodies: None,
            warmup_max_calls: 16,
            probe_ms: 250,
            propagation_ms: 0,
            drain_deadline_ms: 25_000,
            drain_token: None,
            worker_threads: 1,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

/// A setting that is not valid: which, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidSetting {
    /// Its name.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Settings {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first setting that is not valid.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let invalid = |field, problem: &str| Err(InvalidSetting { field, problem: problem.to_owned() });
        match self.role {
            Role::Sidecar if self.upstream.is_none() => {
                return invalid(
                    "upstream",
                    "a sidecar needs the model server's address, such as 127.0.0.1:9000",
                );
            }
            Role::Sidecar if !self.upstreams.is_empty() || self.members.is_some() => {
                return invalid(
                    "role",
                    "upstreams and members are for role gateway; a sidecar has one upstream",
                );
            }
            Role::Gateway if self.upstream.is_some() => {
                return invalid("upstream", "is for role sidecar; a gateway has upstreams or members");
            }
            Role::Gateway if self.upstreams.is_empty() == self.members.is_none() => {
                return invalid("members", "a gateway needs either a members file or a list of upstreams");
            }
            _ => {}
        }
        check_members(&self.members_of_role()).or_else(|problem| invalid("upstreams", &problem))?;
        let at_least_one = [
            ("objectiveMs", self.objective_ms),
            ("maxBatchRows", u64::from(self.max_batch_rows)),
            ("slotsPerUpstream", self.slots_per_upstream as u64),
            ("queueRequests", self.queue_requests as u64),
            ("queueBytes", self.queue_bytes as u64),
            ("maxBodyBytes", self.max_body_bytes as u64),
            ("upstreamTimeoutMs", self.upstream_timeout_ms),
            ("warmupMaxCalls", u64::from(self.warmup_max_calls)),
            ("probeMs", self.probe_ms),
            ("maxModels", self.max_models as u64),
        ];
        for (field, value) in at_least_one {
            if value == 0 {
                return invalid(field, "must be at least 1");
            }
        }
        if let Some(rows) =
            self.allowed_batch_rows.iter().find(|&&rows| rows == 0 || rows > self.max_batch_rows)
        {
            return invalid(
                "allowedBatchRows",
                &format!("{rows} is not between 1 and maxBatchRows ({})", self.max_batch_rows),
            );
        }
        let letters = |token: &String| {
            !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        };
        if !self.drain_token.iter().all(letters) {
            return invalid(
                "drainToken",
                "must be letters, digits and -._~, so that it stands in a query as it is",
            );
        }
        if self.models.len() > self.max_models {
            return invalid("models", "names more models than maxModels allows");
        }
        Ok(())
    }

    /// The model servers that the settings themselves name.
    pub fn members_of_role(&self) -> Vec<Member> {
        match (&self.upstream, self.role) {
            (Some(address), Role::Sidecar) => vec![Member {
                name: "model".to_owned(),
                address: address.clone(),
                grpc_address: self.upstream_grpc.clone(),
            }],
            _ => self.upstreams.clone(),
        }
    }

    /// The sizes that a batch may have, ascending; always with 1.
    pub fn batch_sizes(&self) -> Vec<u32> {
        if self.allowed_batch_rows.is_empty() {
            return (1..=self.max_batch_rows).collect();
        }
        let mut sizes = self.allowed_batch_rows.clone();
        sizes.push(1);
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

/// Whether a membership is valid: names unique and not empty, addresses `host:port`.
///
/// # Errors
/// What is wrong with which member.
pub fn check_members(members: &[Member]) -> Result<(), String> {
    let mut names = std::collections::BTreeSet::new();
    for member in members {
        if member.name.is_empty() {
            return Err(format!("the member with address {:?} has no name", member.address));
        }
        if !names.insert(&member.name) {
            return Err(format!("the name {:?} occurs twice", member.name));
        }
        for address in std::iter::once(&member.address).chain(&member.grpc_address) {
            let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !valid {
                return Err(format!("{}: address {address:?} is not host:port", member.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar() -> Settings {
        Settings { upstream: Some("127.0.0.1:9000".into()), ..Settings::default() }
    }

    #[test]
    fn defaults_need_nothing_but_an_upstream() {
        sidecar().validate().unwrap();
        assert_eq!(Settings::default().validate().unwrap_err().field, "upstream");
    }

    #[test]
    fn a_gateway_has_either_a_file_or_a_list() {
        let gateway = Settings { role: Role::Gateway, ..Settings::default() };
        assert_eq!(gateway.validate().unwrap_err().field, "members");
        Settings { members: Some("members.json".into()), ..gateway }.validate().unwrap();
    }

    #[test]
    fn errors_name_the_field_and_what_is_allowed() {
        let error = Settings { allowed_batch_rows: vec![1, 128], ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "allowedBatchRows: 128 is not between 1 and maxBatchRows (64)");
        let error = Settings { probe_ms: 0, ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "probeMs: must be at least 1");
        let error = Settings { drain_token: Some("a b".into()), ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.field, "drainToken");
        let error = Settings { upstream: Some("nowhere".into()), ..sidecar() }.validate().unwrap_err();
        assert!(error.to_string().contains("\"nowhere\" is not host:port"), "{error}");
    }

    #[test]
    fn one_row_is_always_an_allowed_size() {
        let settings = Settings { allowed_batch_rows: vec![8, 4], ..sidecar() };
        assert_eq!(settings.batch_sizes(), [1, 4, 8]);
        assert_eq!(Settings { max_batch_rows: 3, ..sidecar() }.batch_sizes(), [1, 2, 3]);
    }
}
