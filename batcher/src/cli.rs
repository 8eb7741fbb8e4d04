//! Flags and environment variables; both name the same settings as the file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;
use sluice_process::logging::LogFormat;

use crate::settings::{
    AccessLogSetting, Batching, ControlPaths, Deferral, FormSetting, Padding, Role, SlotSharing, Streaming,
    Warmup, WhileCold,
};

/// Request batcher in front of model servers that speak the Open Inference Protocol.
///
/// Requests of concurrent clients (V2 JSON, V2 binary, V1 :predict, gRPC ModelInfer) for one model are merged into batches and
/// their answers split again. No request reaches a model server that is not warm.
///
/// As a sidecar of one model server:
///
///   sluice-batcher --upstream 127.0.0.1:9000 --models bert --objective-ms 100
///
/// As a gateway in front of several, which may come and go:
///
///   sluice-batcher --role gateway --members members.json --models bert
///
/// A flag wins over its environment variable, that over the settings file, that over the default.
#[derive(Debug, Default, Parser, Serialize)]
#[command(name = "sluice-batcher", version, verbatim_doc_comment)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// Settings file (YAML)
    #[arg(long, env = "SLUICE_BATCHER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where the batcher stands [default: sidecar]
    #[arg(long, env = "SLUICE_BATCHER_ROLE")]
    pub role: Option<Role>,
    /// Front port: HTTP/1.1, h2c and gRPC [default: 0.0.0.0:8080]
    #[arg(long, env = "SLUICE_BATCHER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Admin port: /metrics /livez /readyz /upstreams /explain /drain /upstream-livez /upstream-startedz [default: 127.0.0.1:8081]
    #[arg(long, env = "SLUICE_BATCHER_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// Sidecar: the model server, HOST:PORT or unix:/PATH
    #[arg(long, env = "SLUICE_BATCHER_UPSTREAM", value_name = "ADDRESS")]
    pub upstream: Option<String>,
    /// Sidecar: the model server's gRPC port or socket, where it is another one or the only one
    #[arg(long, env = "SLUICE_BATCHER_UPSTREAM_GRPC", value_name = "ADDRESS")]
    pub upstream_grpc: Option<String>,
    /// Gateway: file with the model servers, read again when it changes
    #[arg(long, env = "SLUICE_BATCHER_MEMBERS", value_name = "FILE")]
    pub members: Option<PathBuf>,
    /// Gateway: a name of which each address is a model server, as of a headless Service
    #[arg(long, env = "SLUICE_BATCHER_MEMBERS_DNS", value_name = "NAME:PORT")]
    pub members_dns: Option<String>,
    /// Models that must be warm before the batcher is ready
    #[arg(long, env = "SLUICE_BATCHER_MODELS", value_delimiter = ',', value_name = "NAME,…")]
    pub models: Option<Vec<String>>,
    /// Latency objective: deadline of requests without their own, basis of the batch size [default: 1000]
    #[arg(long, env = "SLUICE_BATCHER_OBJECTIVE_MS")]
    pub objective_ms: Option<u64>,
    /// Most rows of a batch [default: 64]
    #[arg(long, env = "SLUICE_BATCHER_MAX_BATCH_ROWS")]
    pub max_batch_rows: Option<u32>,
    /// Sizes that a batch may have, where not all
    #[arg(long, env = "SLUICE_BATCHER_ALLOWED_BATCH_ROWS", value_delimiter = ',', value_name = "ROWS,…")]
    pub allowed_batch_rows: Option<Vec<u32>>,
    /// Whether a batch may be filled up to an allowed size [default: off]
    #[arg(long, env = "SLUICE_BATCHER_PADDING")]
    pub padding: Option<Padding>,
    /// Most bytes of the bodies of a batch
    #[arg(long, env = "SLUICE_BATCHER_MAX_BATCH_BYTES")]
    pub max_batch_bytes: Option<u64>,
    /// Most tokens of a batch
    #[arg(long, env = "SLUICE_BATCHER_MAX_BATCH_TOKENS")]
    pub max_batch_tokens: Option<u64>,
    /// The input whose elements are tokens [default: the longest one, where it is of integers]
    #[arg(long, env = "SLUICE_BATCHER_TOKENS_INPUT", value_name = "NAME")]
    pub tokens_input: Option<String>,
    /// Priority classes; 1 is served first [default: 1]
    #[arg(long, env = "SLUICE_BATCHER_PRIORITY_LEVELS")]
    pub priority_levels: Option<u8>,
    /// Class of requests that name none [default: the middle one]
    #[arg(long, env = "SLUICE_BATCHER_DEFAULT_PRIORITY_LEVEL")]
    pub default_priority_level: Option<u8>,
    /// Header with a request's class; "" for none [default: x-sluice-priority]
    #[arg(long, env = "SLUICE_BATCHER_PRIORITY_HEADER", value_name = "NAME")]
    pub priority_header: Option<String>,
    /// Header with a request's deadline in milliseconds; "" for none [default: x-request-timeout-ms]
    #[arg(long, env = "SLUICE_BATCHER_DEADLINE_HEADER", value_name = "NAME")]
    pub deadline_header: Option<String>,
    /// Longest deadline that a request may ask for
    #[arg(long, env = "SLUICE_BATCHER_MAX_TIMEOUT_MS")]
    pub max_timeout_ms: Option<u64>,
    /// Header that says whose a request is; "" for none [default: x-sluice-tenant]
    #[arg(long, env = "SLUICE_BATCHER_TENANT_HEADER", value_name = "NAME")]
    pub tenant_header: Option<String>,
    /// Most tenants with requests at a time [default: 64]
    #[arg(long, env = "SLUICE_BATCHER_MAX_TENANTS")]
    pub max_tenants: Option<usize>,
    /// Batches that one model server runs at a time; 0: found out by its throughput [default: 1]
    #[arg(long, env = "SLUICE_BATCHER_SLOTS_PER_UPSTREAM")]
    pub slots_per_upstream: Option<usize>,
    /// Whether the models of a model server share these [default: shared]
    #[arg(long, env = "SLUICE_BATCHER_SLOT_SHARING")]
    pub slot_sharing: Option<SlotSharing>,
    /// With several slots: whether requests may wait for a larger batch [default: off]
    #[arg(long, env = "SLUICE_BATCHER_DEFERRAL")]
    pub deferral: Option<Deferral>,
    /// Requests that may wait, per model [default: 4096]
    #[arg(long, env = "SLUICE_BATCHER_QUEUE_REQUESTS")]
    pub queue_requests: Option<usize>,
    /// Bytes of waiting and running requests together [default: 268435456]
    #[arg(long, env = "SLUICE_BATCHER_QUEUE_BYTES")]
    pub queue_bytes: Option<usize>,
    /// Bytes of answers that clients have not taken together [default: 268435456]
    #[arg(long, env = "SLUICE_BATCHER_ANSWER_BYTES")]
    pub answer_bytes: Option<usize>,
    /// Most bytes of one body [default: 67108864]
    #[arg(long, env = "SLUICE_BATCHER_MAX_BODY_BYTES")]
    pub max_body_bytes: Option<usize>,
    /// Most input tensors, and most requested outputs, of a request [default: 256]
    #[arg(long, env = "SLUICE_BATCHER_MAX_TENSORS")]
    pub max_tensors: Option<usize>,
    /// Most parameters of a request, and of a tensor [default: 64]
    #[arg(long, env = "SLUICE_BATCHER_MAX_PARAMETERS")]
    pub max_parameters: Option<usize>,
    /// Most connections of clients at once [default: 10000]
    #[arg(long, env = "SLUICE_BATCHER_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,
    /// How long requests are held while no model server is ready [default: 30000]
    #[arg(long, env = "SLUICE_BATCHER_HOLD_MS")]
    pub hold_ms: Option<u64>,
    /// Sidecar: hold or reject what arrives while the model server is not warm [default: hold]
    #[arg(long, env = "SLUICE_BATCHER_WHILE_COLD")]
    pub while_cold: Option<WhileCold>,
    /// How often a request is sent again after its connection broke [default: 2]
    #[arg(long, env = "SLUICE_BATCHER_RETRIES")]
    pub retries: Option<u32>,
    /// How long a model server may take for one batch [default: 30000]
    #[arg(long, env = "SLUICE_BATCHER_UPSTREAM_TIMEOUT_MS")]
    pub upstream_timeout_ms: Option<u64>,
    /// Form of batches [default: auto]
    #[arg(long, env = "SLUICE_BATCHER_UPSTREAM_FORM")]
    pub upstream_form: Option<FormSetting>,
    /// Whether clients may control model servers: load, unload, trace, log, shared memory, sleep [default: refuse]
    #[arg(long, env = "SLUICE_BATCHER_CONTROL_PATHS")]
    pub control_paths: Option<ControlPaths>,
    /// Beginnings of the paths that pass through [default: all]
    #[arg(long, env = "SLUICE_BATCHER_PASS_PATHS", value_delimiter = ',', value_name = "PATH,…")]
    pub pass_paths: Option<Vec<String>>,
    /// Whether to merge [default: auto]
    #[arg(long, env = "SLUICE_BATCHER_BATCHING")]
    pub batching: Option<Batching>,
    /// Whether streams (OpenAI, generate) are let in by a learned limit [default: auto]
    #[arg(long, env = "SLUICE_BATCHER_STREAMING")]
    pub streaming: Option<Streaming>,
    /// Largest limit of streams per model and model server [default: 1024]
    #[arg(long, env = "SLUICE_BATCHER_MAX_STREAMS")]
    pub max_streams: Option<u32>,
    /// When a stream without a deadline of its own must have started [default: 10000]
    #[arg(long, env = "SLUICE_BATCHER_STREAM_WAIT_MS")]
    pub stream_wait_ms: Option<u64>,
    /// Whether and how to warm up [default: metadata]
    #[arg(long, env = "SLUICE_BATCHER_WARMUP")]
    pub warmup: Option<Warmup>,
    /// Folder with warm-up bodies, `<model>.<rows>.json`
    #[arg(long, env = "SLUICE_BATCHER_WARMUP_BODIES", value_name = "FOLDER")]
    pub warmup_bodies: Option<PathBuf>,
    /// After SIGTERM: how long requests may take to finish [default: 25000]
    #[arg(long, env = "SLUICE_BATCHER_DRAIN_DEADLINE_MS")]
    pub drain_deadline_ms: Option<u64>,
    /// How long others may still send here once it is not ready [default: 0]
    #[arg(long, env = "SLUICE_BATCHER_PROPAGATION_MS")]
    pub propagation_ms: Option<u64>,
    /// How long /drain waits before it begins [default: 0]
    #[arg(long, env = "SLUICE_BATCHER_DRAIN_DELAY_MS")]
    pub drain_delay_ms: Option<u64>,
    /// What is called when a drain has ended, before the model server is stopped
    #[arg(long, env = "SLUICE_BATCHER_AFTER_DRAIN", value_name = "http://HOST:PORT/PATH")]
    pub after_drain: Option<String>,
    /// Header of that call; may be repeated
    #[arg(long = "after-drain-header", value_name = "NAME: VALUE")]
    pub after_drain_headers: Option<Vec<String>>,
    /// How long that call may take [default: 30000]
    #[arg(long, env = "SLUICE_BATCHER_AFTER_DRAIN_TIMEOUT_MS")]
    pub after_drain_timeout_ms: Option<u64>,
    /// What /drain?token= must say; better given by the environment, where no list of processes shows it
    #[arg(long, env = "SLUICE_BATCHER_DRAIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub drain_token: Option<String>,
    /// File with the token for /explain; without it only the loopback interface may ask
    #[arg(long, env = "SLUICE_BATCHER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Threads for requests; 0 is one per core [default: 1]
    #[arg(long, env = "SLUICE_BATCHER_WORKER_THREADS")]
    pub worker_threads: Option<usize>,
    /// Which requests the access log has [default: off]
    #[arg(long, env = "SLUICE_BATCHER_ACCESS_LOG")]
    pub access_log: Option<AccessLogSetting>,
    /// How many of the last requests /explain can tell of [default: 0]
    #[arg(long, env = "SLUICE_BATCHER_EXPLAIN_REQUESTS")]
    pub explain_requests: Option<usize>,
    /// Collector that gets spans (OTLP over HTTP, JSON)
    #[arg(long, env = "SLUICE_BATCHER_OTLP_ENDPOINT", value_name = "HOST:PORT")]
    pub otlp_endpoint: Option<String>,
    /// Share of the requests without a trace of their own that begin one [default: 0]
    #[arg(long, env = "SLUICE_BATCHER_TRACE_SAMPLE_RATIO", value_name = "0..1")]
    pub trace_sample_ratio: Option<f64>,
    /// Form of the log lines [default: text]
    #[arg(long, env = "SLUICE_BATCHER_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log filter: error, warn, info, debug, trace, or target=level,… [default: info]
    #[arg(long, env = "SLUICE_BATCHER_LOG_LEVEL")]
    pub log_level: Option<String>,
}
