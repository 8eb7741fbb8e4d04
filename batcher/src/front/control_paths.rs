//! Paths that control a model server instead of asking it for inferences: loading and unloading of models, shared
//! memory, trace and log settings, sleep, caches, weights. A client that may use a model need not be allowed to unload
//! it.
//!
//! A path is judged by every reading that a server, or a proxy before it, may have of it: escapes decoded once or
//! several times, doubled slashes, dot segments, upper case, parameters behind `;`, what follows an escaped `?`. A path
//! controls if one of its readings does.

use http::{HeaderMap, Method};
use percent_encoding::percent_decode;
use sluice_protocol::grpc::MessageHead;

/// Maximum depth of escapes within escapes that are decoded; no honest client sends a path with more.
const MOST_DECODINGS: usize = 4;

/// Headers with which some frameworks replace the method of a request.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Segments that may stand before the words of a server.
const PREFIXES: [&str; 8] = ["v1", "v2", "v3", "api", "openai", "inference", "server", "engine"];

/// Segments that control LLM servers (vLLM, SGLang, LMDeploy, TensorRT-LLM) with any method, because some act on GET.
const WORDS: [&str; 40] = [
    "abort_request",
    "abort_requests",
    "attach_hicache_storage_backend",
    "clear_hicache_storage_backend",
    "collective_rpc",
    "configure_logging",
    "continue_generation",
    "detach_hicache_storage_backend",
    "dump_expert_distribution_record",
    "finish_weight_update",
    "flush_cache",
    "freeze_gc",
    "load_lora_adapter",
    "load_lora_adapter_from_tensors",
    "lora-adapters",
    "pause",
    "pause_generation",
    "release_memory",
    "release_memory_occupation",
    "reset_encoder_cache",
    "reset_mm_cache",
    "reset_prefix_cache",
    "resume",
    "resume_memory",
    "resume_memory_occupation",
    "scale_elastic_ep",
    "set_internal_state",
    "shutdown",
    "sleep",
    "slow_down",
    "start_expert_distribution_record",
    "start_profile",
    "start_weight_update",
    "stop_expert_distribution_record",
    "stop_profile",
    "terminate",
    "unload_lora_adapter",
    "wake_up",
    "wakeup",
    "weights_checker",
];

/// Prefixes of such segments.
const WORD_STARTS: [&str; 6] =
    ["destroy_weights", "init_weight", "send_weight", "update_expert", "update_weight", "weight_transfer"];

/// gRPC methods that control a server, in any service: Triton's, MLServer's, TorchServe's, TensorFlow Serving's.
const GRPC_METHODS: [&str; 13] = [
    "cudasharedmemoryregister",
    "cudasharedmemoryunregister",
    "handlereloadconfigrequest",
    "logsettings",
    "registermodel",
    "repositorymodelload",
    "repositorymodelunload",
    "scaleworker",
    "setdefault",
    "systemsharedmemoryregister",
    "systemsharedmemoryunregister",
    "tracesetting",
    "unregistermodel",
];

/// gRPC calls that control a server if they set something, and otherwise only read.
const GRPC_SETTINGS: [&str; 2] =
    ["/inference.GRPCInferenceService/LogSettings", "/inference.GRPCInferenceService/TraceSetting"];

/// gRPC services of which every method controls a server: profilers.
const GRPC_SERVICES: [&str; 2] = ["tensorflow.profilerservice", "tensorflow.profileanalysis"];

/// Returns whether a request may control the model server.
pub(super) fn is_control(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let claims_other = METHOD_OVERRIDES.iter().any(|name| headers.contains_key(*name));
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) && !claims_other;
    let readings = Readings::of(path);
    readings.too_deep || readings.paths.iter().any(|path| controls(path, method, reads, claims_other))
}

/// Returns whether the message of a gRPC call decides whether it controls; see [`sets`].
pub(super) fn message_decides(path: &str) -> bool {
    GRPC_SETTINGS.contains(&path)
}

/// Returns whether such a call sets anything, which is field 1 of its message. A message that cannot be read (`None`)
/// counts as setting something.
pub(super) fn sets(message: Option<&MessageHead>) -> bool {
    message.is_none_or(|message| message.has_first)
}

/// Returns whether a path has only one reading, because it has no escapes, dot segments or the like.
pub(super) fn is_plain(path: &str) -> bool {
    !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';')) && !path.contains("..")
}

/// Returns whether a path begins with one of the allowed prefixes, segment by segment, in each of its readings.
pub(super) fn is_allowed(path: &str, prefixes: &[String]) -> bool {
    let readings = Readings::of(path);
    let begins = |segments: &Vec<String>, prefix: &String| {
        let mut prefix = prefix.split('/').filter(|segment| !segment.is_empty());
        let mut segments = segments.iter();
        prefix.all(|wanted| segments.next().is_some_and(|segment| *segment == wanted.to_ascii_lowercase()))
    };
    !readings.too_deep && readings.paths.iter().all(|path| prefixes.iter().any(|prefix| begins(path, prefix)))
}

/// Readings of a path: its segments in lower case, without empty ones.
struct Readings {
    paths: Vec<Vec<String>>,
    /// Whether escapes were left after [`MOST_DECODINGS`] decodings.
    too_deep: bool,
}

impl Readings {
    fn of(path: &str) -> Self {
        let mut text = path.to_owned();
        let mut paths = Vec::new();
        for depth in 0..=MOST_DECODINGS {
            // If these were escaped, one server takes them as part of the path and another one as its end.
            let cut = text.find(['?', '#', '\0']).map(|end| &text[..end]);
            for text in [Some(text.as_str()), cut].into_iter().flatten() {
                let segments = segments(text);
                paths.extend(resolved(&segments));
                paths.push(segments);
            }
            let decoded = percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned();
            if decoded == text {
                return Self { paths, too_deep: false };
            }
            if depth == MOST_DECODINGS {
                break;
            }
            text = decoded;
        }
        Self { paths, too_deep: true }
    }
}

/// Splits a path into segments, with `..` left in.
fn segments(path: &str) -> Vec<String> {
    path.split(['/', '\\'])
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .map(|segment| segment.trim_matches(|c: char| c.is_whitespace() || c.is_control()))
        .filter(|segment| !segment.is_empty() && *segment != ".")
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Resolves `..` segments; `None` where there are none.
fn resolved(segments: &[String]) -> Option<Vec<String>> {
    segments.iter().any(|segment| segment == "..").then(|| {
        let mut path: Vec<String> = Vec::new();
        for segment in segments {
            if segment == ".." {
                path.pop();
            } else {
                path.push(segment.clone());
            }
        }
        path
    })
}

fn controls(path: &[String], method: &Method, reads: bool, claims_other: bool) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let Some((last, before)) = path.split_last() else { return false };
    // A proxy may remove a prefix on the way to the server.
    (0..path.len()).any(|at| controls_v2(&path[at..], reads))
        || controls_models(&path, method, claims_other)
        || is_word(last) && before.iter().all(|segment| PREFIXES.contains(segment))
        || controls_by_grpc(&path)
        || controls_others(&path, reads)
}

/// Returns whether a path is that of a controlling extension of Triton's, some of which MLServer and KServe have too.
fn controls_v2(path: &[&str], reads: bool) -> bool {
    match path {
        ["v2", "repository", "index"] | ["v2", "repository", _, "index"] => false,
        ["v2", "repository", ..] => true,
        ["v2", shared, ..] if shared.ends_with("sharedmemory") => !reads,
        ["v2", "logging", ..] | ["v2", "trace", ..] => !reads,
        ["v2", "models", .., "trace", "setting"] => !reads,
        _ => false,
    }
}

/// Returns whether a path manages models as in TorchServe, DJL Serving, SageMaker's multi-model endpoints and llama.cpp.
fn controls_models(path: &[&str], method: &Method, claims_other: bool) -> bool {
    let at = usize::from(path.first().is_some_and(|first| PREFIXES.contains(first)));
    let Some((&("models" | "workflows"), rest)) = path.get(at..).and_then(<[&str]>::split_first) else {
        return false;
    };
    let changes = [Method::PUT, Method::DELETE, Method::PATCH].contains(method) || claims_other;
    let is_word = matches!(rest, [] | ["load" | "unload" | "apply"] | ["delete", _]);
    changes || (*method == Method::POST && is_word)
}

/// Returns whether a path controls OpenVINO Model Server, Ollama, llama.cpp or DJL Serving.
fn controls_others(path: &[&str], reads: bool) -> bool {
    match path {
        ["v1", "config", "reload"] => true,
        ["api", "pull" | "push" | "create" | "copy" | "delete", ..] => true,
        ["api", "blobs", ..] | ["slots", ..] | ["props"] | ["server", "logging"] => !reads,
        _ => false,
    }
}

fn is_word(segment: &str) -> bool {
    WORDS.contains(&segment) || WORD_STARTS.iter().any(|start| segment.starts_with(start))
}

fn controls_by_grpc(path: &[&str]) -> bool {
    match path {
        [.., service, method] => {
            service.contains('.') && GRPC_METHODS.contains(method) || GRPC_SERVICES.contains(service)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
