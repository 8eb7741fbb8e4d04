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
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn control(method: Method, path: &str) -> bool {
        is_control(&method, path, &HeaderMap::new())
    }

    #[test]
    fn what_controls_a_server_is_known_in_each_protocol() {
        for path in [
            "/v2/repository/models/m/load",
            "/v2/repository/models/m/unload",
            "/v2/repository/other/models/m/load",
            "/v2/trace/setting",
            "/v2/models/m/trace/setting",
            "/v2/models/m/versions/1/trace/setting",
            "/v2/logging",
            "/v2/systemsharedmemory/region/r/register",
            "/v2/systemsharedmemory/unregister",
            "/v2/cudasharedmemory/region/r/register",
            "/sleep",
            "/wake_up",
            "/reset_prefix_cache",
            "/v1/load_lora_adapter",
            "/v1/unload_lora_adapter",
            "/update_weights_from_disk",
            "/models",
            "/v1/config/reload",
            "/api/pull",
            "/slots/1",
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            "/inference.GRPCInferenceService/RepositoryModelUnload",
            "/inference.GRPCInferenceService/TraceSetting",
            "/inference.GRPCInferenceService/LogSettings",
            "/inference.GRPCInferenceService/SystemSharedMemoryRegister",
            "/inference.GRPCInferenceService/CudaSharedMemoryUnregister",
            "/inference.model_repository.ModelRepositoryService/RepositoryModelLoad",
            "/org.pytorch.serve.grpc.management.ManagementAPIsService/RegisterModel",
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
            "/tensorflow.ProfilerService/Profile",
        ] {
            assert!(control(Method::POST, path), "{path}");
        }
        assert!(control(Method::GET, "/flush_cache") && control(Method::DELETE, "/models/m/1.0"));
        assert!(control(Method::PUT, "/models/m/1.0/set-default"));
    }

    #[test]
    fn a_grpc_call_that_sets_nothing_reads() {
        for path in GRPC_SETTINGS {
            assert!(control(Method::POST, path) && message_decides(path), "{path}");
        }
        // The meaning of the message is unknown for other servers and for another reading of the path.
        for path in [
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            "/other.Service/LogSettings",
            "//inference.GRPCInferenceService/LogSettings",
        ] {
            assert!(control(Method::POST, path) && !message_decides(path), "{path}");
        }
        assert!(sets(Some(&MessageHead::read(&[0x0a, 1, b'x']))));
        assert!(sets(None), "nobody knows");
        assert!(!sets(Some(&MessageHead::default())));
    }

    #[test]
    fn what_asks_passes() {
        for (method, path) in [
            (Method::POST, "/v2/repository/index"),
            (Method::POST, "/v2/repository/mine/index"),
            (Method::GET, "/v2/trace/setting"),
            (Method::GET, "/v2/models/m/trace/setting"),
            (Method::GET, "/v2/logging"),
            (Method::GET, "/v2/systemsharedmemory/status"),
            (Method::GET, "/v2/models/m/config"),
            (Method::GET, "/v2/models/sleep"),
            (Method::POST, "/v2/models/load/infer"),
            (Method::POST, "/v2/models/repository/generate"),
            (Method::GET, "/v2/models/m%2Fn/stats"),
            (Method::GET, "/v1/models"),
            (Method::GET, "/models"),
            (Method::POST, "/models/m/invoke"),
            (Method::POST, "/predictions/resume"),
            (Method::POST, "/v1/chat/completions"),
            (Method::POST, "/v1/embeddings"),
            (Method::GET, "/is_sleeping"),
            (Method::OPTIONS, "*"),
            (Method::POST, "/inference.GRPCInferenceService/RepositoryIndex"),
            (Method::POST, "/inference.GRPCInferenceService/ModelStreamInfer"),
            (Method::POST, "/inference.GRPCInferenceService/SystemSharedMemoryStatus"),
        ] {
            assert!(!control(method.clone(), path), "{method} {path}");
        }
    }

    #[test]
    fn no_disguise_helps() {
        for path in [
            "/v2/repository/models/m/%6coad",
            "/v2/repository/models/m/%256coad",
            "/v2/repository/models/m/%25256coad",
            "/%76%32/repository/models/m/load",
            "/v2/%2e%2e/v2/repository/models/m/load",
            "//v2///repository//models/m/load/",
            "/v2/./repository/models/m/load",
            "/v2/models/../repository/models/m/load",
            "/v2/models/x/..%2f..%2frepository/models/m/load",
            "/v2/models/..%5c..%5cv2%5crepository/models/m/load",
            "/V2/Repository/Models/m/LOAD",
            "/v2/repository;a=b/models/m/load;c",
            "/v2/repository/models/m/load%00",
            "/v2/repository/models/m/load%20",
            "/v2/repository/models/m/load%3fx/index",
            "/v2/repository/models/m/load%23/infer",
            "/v2/models/..%2frepository%2fmodels%2fm%2fload%3f/infer",
            "/triton/v2/repository/models/m/load",
            "/v2/repository/models/a%2Fb/load",
            "/v2/repository/models/../load",
            "/v2%2frepository%2fmodels%2fm%2fload",
            "/v2/x%25252525252525252f",
            "/inference.GRPCInferenceService/%52epositoryModelLoad",
            "//inference.grpcinferenceservice/repositorymodelload",
            "/./sleep",
            "/sleep/",
            "/openai/v1/%6coad_lora_adapter",
        ] {
            assert!(control(Method::POST, path), "{path}");
        }
        let overridden = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-http-method-override"),
            HeaderValue::from_static("POST"),
        )]);
        assert!(is_control(&Method::GET, "/v2/trace/setting", &overridden));
        assert!(is_control(&Method::POST, "/models/m", &overridden), "it may mean DELETE");
    }

    #[test]
    fn prefixes_are_of_whole_segments_and_hold_in_each_reading() {
        let prefixes = ["/v2/models".to_owned(), "/docs/".to_owned()];
        for path in ["/v2/models", "/v2/models/m", "/docs", "/docs/x", "//v2/models/m%20n"] {
            assert!(is_allowed(path, &prefixes), "{path}");
        }
        for path in
            ["/v2", "/v2/modelsx", "/v2/models/../x", "/v2/models/%2e%2e/x", "/x%2f..%2fv2/models", "*"]
        {
            assert!(!is_allowed(path, &prefixes), "{path}");
        }
        assert!(is_allowed("/anything", &["/".to_owned()]));
    }

    proptest! {
        /// However the letters of a control path are escaped, it is one.
        #[test]
        fn escapes_change_nothing(escaped in prop::collection::vec(0..3u8, 28), slashes in 1..4usize) {
            let path = "/v2/repository/models/m/load";
            let text: String = path
                .bytes()
                .zip(&escaped)
                .map(|(byte, depth)| match (byte, depth) {
                    (b'/', _) => "/".repeat(slashes),
                    (_, 0) => char::from(byte).to_string(),
                    (_, 1) => format!("%{byte:02x}"),
                    _ => format!("%25{byte:02X}"),
                })
                .collect();
            prop_assert!(control(Method::POST, &text), "{}", text);
        }

        #[test]
        fn any_path_is_judged(path in "(/|%2f|%2e|\\.\\.|;|%|[a-z]|%25|\\\\|é){0,40}") {
            let _ = control(Method::POST, &path);
            let _ = is_allowed(&path, &["/v2".to_owned()]);
        }
    }
}
