//! Settings of the batcher, and what makes them valid.
//!
//! | module | what is there |
//! |---|---|
//! | `address` | `host:port`, or the path of a Unix socket |
//! | `choices` | settings with a few values each |
//! | `members` | model servers by name and address |
//! | `of_model` | what may differ from model to model |
//! | `own_headers` | headers that model servers ask for, such as a token |
//! | `validate` | what types cannot check; every error names the field, the value and what is allowed |
//! | `live`, `reload` | the settings as they are now; a changed file is taken over without a restart |

mod choices;
mod live;
mod members;
mod of_model;
mod own_headers;
mod reload;
mod validate;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sluice_process::logging::LogFormat;

pub use choices::{
    AccessLogSetting, Batching, ControlPaths, Deferral, FormSetting, Padding, Role, SlotSharing, Streaming,
    Warmup, WhileCold,
};
pub use live::Live;
pub use members::{Member, check_members};
pub use of_model::{ModelOverrides, ModelSettings};
pub use own_headers::OwnHeaders;
pub use reload::{Reload, take_over};
pub use validate::InvalidSetting;

/// Settings with which a model server was warmed: with others it has to be warmed again.
const WARMED_BY: [&str; 9] = [
    "maxBatchRows",
    "allowedBatchRows",
    "padding",
    "batching",
    "slotSharing",
    "upstreamForm",
    "upstreamHeaders",
    "warmup",
    "warmupBodies",
];

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
    /// Sidecar: `host:port` of the model server, or `unix:/path`; absent where it speaks gRPC only.
    pub upstream: Option<String>,
    /// Sidecar: `host:port` or `unix:/path` for gRPC, where that is another one.
    pub upstream_grpc: Option<String>,
    /// Gateway: the model servers, where their number is fixed.
    pub upstreams: Vec<Member>,
    /// Gateway: file with the model servers, read again when it changes.
    pub members: Option<PathBuf>,
    /// Gateway: `name:port` of which each address is a model server, as of a headless Service.
    pub members_dns: Option<String>,
    /// How often that name is resolved.
    pub members_poll_ms: u64,
    /// Models that must be warm before the batcher is ready. Others are warmed when they are asked for.
    pub models: Vec<String>,
    /// Most models that get a queue; requests for more that a model server has pass through unmerged.
    pub max_models: usize,
    /// Latency objective: the deadline of requests without one of their own, and the basis of the batch size.
    pub objective_ms: u64,
    /// Most rows of a batch.
    pub max_batch_rows: u32,
    /// Sizes that a batch may have, where not all up to `maxBatchRows`; 1 is always allowed, unless batches are padded.
    pub allowed_batch_rows: Vec<u32>,
    /// Whether a batch may be filled up to an allowed size.
    pub padding: Padding,
    /// Most bytes of the bodies of a batch.
    pub max_batch_bytes: Option<u64>,
    /// Most tokens of a batch.
    pub max_batch_tokens: Option<u64>,
    /// The input whose elements are tokens; without it, the one with the most elements per row, where these are integers.
    pub tokens_input: Option<String>,
    /// What differs from model to model.
    pub model_settings: BTreeMap<String, ModelOverrides>,
    /// Priority classes; 1 is served first. With one, all requests are of it.
    pub priority_levels: u8,
    /// The class of requests that name none, or one that there is not; without it, the middle one.
    pub default_priority_level: Option<u8>,
    /// Header with a request's class; it wins over the parameter `priority`. Empty: none.
    pub priority_header: String,
    /// Header with a request's deadline in milliseconds from its arrival. Empty: none.
    pub deadline_header: String,
    /// Longest deadline that a request may ask for; longer ones are cut to it.
    pub max_timeout_ms: Option<u64>,
    /// Header that says whose a request is; requests without it are all one tenant's. Empty: none.
    pub tenant_header: String,
    /// Weights of tenants, 1 where there is none here: a tenant's part of the service relative to the others'.
    pub tenant_weights: BTreeMap<String, u32>,
    /// Most tenants with requests at a time; further ones share one place.
    pub max_tenants: usize,
    /// Most sequences of a model whose model server is remembered.
    pub max_sequences: usize,
    /// For how long a sequence without a step is remembered: longer than any model server keeps its state.
    pub sequence_idle_ms: u64,
    /// Batches that one model server runs at a time; 0: found out by its throughput.
    pub slots_per_upstream: usize,
    /// Whether these are for all models together.
    pub slot_sharing: SlotSharing,
    /// Whether requests may wait for a larger batch although a slot is free.
    pub deferral: Deferral,
    /// Requests that may wait, per model. Full means 429.
    pub queue_requests: usize,
    /// Bytes of waiting and running requests together. Full means 429.
    pub queue_bytes: usize,
    /// Bytes of the answers that clients have not taken, together. Full means that those which wait longest are given up.
    pub answer_bytes: usize,
    /// Most bytes of one request's body, and of one upstream answer.
    pub max_body_bytes: usize,
    /// Most connections of clients at once; more are answered 503 and closed.
    pub max_connections: usize,
    /// Most input tensors, and most requested outputs, of one request; more is 400.
    pub max_tensors: usize,
    /// Most parameters of one request, and of one of its tensors; more is 400.
    pub max_parameters: usize,
    /// Most bytes of a request's head; more is 431.
    pub max_header_bytes: usize,
    /// How long a request's head may take from its first byte to its last.
    pub header_timeout_ms: u64,
    /// How long a body may pause; then 408.
    pub body_timeout_ms: u64,
    /// How long a client may take nothing of an answer that is there; then its stream is reset, or its connection closed.
    pub answer_timeout_ms: u64,
    /// How long a connection may be without requests; then it is closed gracefully.
    pub idle_timeout_ms: u64,
    /// How long requests are held while no model server is ready; then 503.
    pub hold_ms: u64,
    /// Whether requests that arrive while no model server is warm are held or refused.
    pub while_cold: WhileCold,
    /// How often a request is sent again after a connection broke in mid-flight.
    pub retries: u32,
    /// How long a model server may take for one batch; then 504.
    pub upstream_timeout_ms: u64,
    /// Form of batches.
    pub upstream_form: FormSetting,
    /// Headers of the batcher's own requests: questions, warm-up calls and batches.
    pub upstream_headers: OwnHeaders,
    /// What an answer takes from here to its client: deadlines here are earlier by so much.
    pub transit_ms: u64,
    /// Headers of clients that go to the model server with a batch; only requests that agree in them share one.
    pub shared_headers: Vec<String>,
    /// Whether clients may control model servers.
    pub control_paths: ControlPaths,
    /// Beginnings of the paths that pass through; all, where there is none.
    pub pass_paths: Vec<String>,
    /// Whether to merge.
    pub batching: Batching,
    /// Whether streams are let in by a learned limit.
    pub streaming: Streaming,
    /// Least limit of streams per model and model server.
    pub min_streams: u32,
    /// Largest limit.
    pub max_streams: u32,
    /// The limit before anything is learned.
    pub initial_streams: u32,
    /// Requests that may wait to become streams, per model. More is 429.
    pub max_waiting_streams: usize,
    /// When a stream without a deadline of its own must have started; it is 429 when that cannot be.
    pub stream_wait_ms: u64,
    /// Longest body of a stream's request that is looked into, for its model and its tokens.
    pub stream_peek_bytes: usize,
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
    /// For how long `/drain` goes on as if nothing had happened before it begins: a wait of the model server's own.
    pub drain_delay_ms: u64,
    /// `http://HOST:PORT/PATH` that is called when a drain has ended: what the model server wants to hear before it
    /// is stopped.
    pub after_drain: Option<String>,
    /// Headers of that call, each `name: value`.
    pub after_drain_headers: Vec<String>,
    /// How long that call may take.
    pub after_drain_timeout_ms: u64,
    /// What `/drain?token=` must say; without it, whoever reaches the admin port may drain.
    pub drain_token: Option<String>,
    /// File with the token that whoever asks about requests on the admin port must send; without it, only the loopback
    /// interface may.
    pub admin_token_file: Option<PathBuf>,
    /// Threads for requests; 0: one per core.
    pub worker_threads: usize,
    /// Which requests the access log has.
    pub access_log: AccessLogSetting,
    /// File of the access log; standard output without it.
    pub access_log_file: Option<PathBuf>,
    /// Share of the requests that ended well in the access log, 0 to 1.
    pub access_log_sample: f64,
    /// How many of the last requests `/explain` can tell of; 0: none, and nothing is kept.
    pub explain_requests: usize,
    /// `host:port` of the collector that gets spans (OTLP over HTTP, JSON); without it there are none.
    pub otlp_endpoint: Option<String>,
    /// Share of the requests without a trace of their own that begin one, 0 to 1.
    pub trace_sample_ratio: f64,
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
            members_dns: None,
            members_poll_ms: 1000,
            models: Vec::new(),
            max_models: 64,
            objective_ms: 1000,
            max_batch_rows: 64,
            allowed_batch_rows: Vec::new(),
            padding: Padding::Off,
            max_batch_bytes: None,
            max_batch_tokens: None,
            tokens_input: None,
            model_settings: BTreeMap::new(),
            priority_levels: 1,
            default_priority_level: None,
            priority_header: "x-sluice-priority".to_owned(),
            deadline_header: "x-request-timeout-ms".to_owned(),
            max_timeout_ms: None,
            tenant_header: "x-sluice-tenant".to_owned(),
            tenant_weights: BTreeMap::new(),
            max_tenants: 64,
            max_sequences: 8192,
            sequence_idle_ms: 600_000,
            slots_per_upstream: 1,
            slot_sharing: SlotSharing::Shared,
            deferral: Deferral::Off,
            queue_requests: 4096,
            queue_bytes: 256 << 20,
            answer_bytes: 256 << 20,
            max_body_bytes: 64 << 20,
            max_connections: 10_000,
            max_tensors: 256,
            max_parameters: 64,
            max_header_bytes: 64 << 10,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            answer_timeout_ms: 60_000,
            idle_timeout_ms: 300_000,
            hold_ms: 30_000,
            while_cold: WhileCold::Hold,
            retries: 2,
            upstream_timeout_ms: 30_000,
            upstream_form: FormSetting::Auto,
            upstream_headers: OwnHeaders::default(),
            transit_ms: 2,
            shared_headers: ["authorization", "cookie", "x-api-key"].map(str::to_owned).into(),
            control_paths: ControlPaths::Refuse,
            pass_paths: Vec::new(),
            batching: Batching::Auto,
            streaming: Streaming::Auto,
            min_streams: 1,
            max_streams: 1024,
            initial_streams: 32,
            max_waiting_streams: 1024,
            stream_wait_ms: 10_000,
            stream_peek_bytes: 256 << 10,
            warmup: Warmup::Metadata,
            warmup_bodies: None,
            warmup_max_calls: 16,
            probe_ms: 250,
            propagation_ms: 0,
            drain_deadline_ms: 25_000,
            drain_delay_ms: 0,
            after_drain: None,
            after_drain_headers: Vec::new(),
            after_drain_timeout_ms: 30_000,
            drain_token: None,
            admin_token_file: None,
            worker_threads: 1,
            access_log: AccessLogSetting::Off,
            access_log_file: None,
            access_log_sample: 1.0,
            explain_requests: 0,
            otlp_endpoint: None,
            trace_sample_ratio: 0.0,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

impl Settings {
    /// The model servers that the settings themselves name.
    pub fn members_of_role(&self) -> Vec<Member> {
        let named = self.upstream.is_some() || self.upstream_grpc.is_some();
        if self.role == Role::Sidecar && named {
            return vec![Member {
                name: "model".to_owned(),
                address: self.upstream.clone().unwrap_or_default(),
                grpc_address: self.upstream_grpc.clone(),
            }];
        }
        self.upstreams.clone()
    }

    /// Digest of all that decides which batches a model server must have been warmed with. It only has to tell one
    /// state from the next within this process.
    pub fn warmth_digest(&self) -> u64 {
        let mut fields = reload::fields(self);
        fields.retain(|name, _| WARMED_BY.contains(&name.as_str()));
        let mut hasher = DefaultHasher::new();
        serde_json::Value::Object(fields).to_string().hash(&mut hasher);
        // Of what models have of their own, only what decides about sizes.
        for model in self.model_settings.keys() {
            let own = self.of_model(model);
            (model, own.batch_rows(), format!("{:?}", own.batching)).hash(&mut hasher);
        }
        hasher.finish()
    }
}
