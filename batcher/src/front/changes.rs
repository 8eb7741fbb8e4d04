//! Calls that change a model server: what it has loaded, logs, traces or shares. One server of several would then differ
//! from the others, whichever it was; sent to all of them, they could fail at some, and those that come later would not
//! know of them. So they pass where there is one model server, and are refused where there are several.

use http::Method;
use sluice_protocol::grpc::MessageHead;
use sluice_protocol::percent_decoded;

/// What a call changes, by its path; `None` where it only reads.
pub(super) fn changed_by(method: &Method, path: &str) -> Option<&'static str> {
    let decoded = percent_decoded(path);
    let path = decoded.as_deref().unwrap_or(path);
    let last = path.rsplit('/').next().unwrap_or_default();
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    match path.strip_prefix("/v2/") {
        Some(_) if reads => None,
        Some(rest) if rest.starts_with("repository/") => {
            matches!(last, "load" | "unload").then_some("what it has loaded")
        }
        Some("logging") => Some("its logging"),
        Some(rest) if rest == "trace/setting" || rest.ends_with("/trace/setting") => Some("its tracing"),
        Some(rest) if rest.split('/').next().is_some_and(|first| first.ends_with("sharedmemory")) => {
            matches!(last, "register" | "unregister").then_some("its shared memory")
        }
        Some(_) => None,
        // Of vLLM, SGLang and OpenVINO's model server; some of these take any method.
        None => match path.strip_prefix("/v1").unwrap_or(path) {
            "/config/reload" | "/load_lora_adapter" | "/unload_lora_adapter" => Some("what it has loaded"),
            path if path.starts_with("/update_weights") => Some("what it has loaded"),
            "/sleep" | "/wake_up" | "/reset_prefix_cache" | "/flush_cache" => Some("its state"),
            _ => None,
        },
    }
}

/// The same of a gRPC method, by the last part of its path, of whichever service it is; `head` is of its request,
/// `None` where that cannot be read.
pub(super) fn changed_by_grpc(method: &str, head: Option<&MessageHead>) -> Option<&'static str> {
    match method {
        "RepositoryModelLoad" | "RepositoryModelUnload" | "HandleReloadConfigRequest" => {
            Some("what it has loaded")
        }
        // The same call reads where it sets nothing; what it sets is field 1.
        "LogSettings" if head.is_none_or(|head| head.has_first) => Some("its logging"),
        "TraceSetting" if head.is_none_or(|head| head.has_first) => Some("its tracing"),
        _ if method.ends_with("SharedMemoryRegister") || method.ends_with("SharedMemoryUnregister") => {
            Some("its shared memory")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_passes() {
        let post = |path| changed_by(&Method::POST, path).is_some();
        for path in [
            "/v2/repository/models/m/load",
            "/v2/repository/r/models/m/unload",
            "/v2/logging",
            "/v2/trace/setting",
            "/v2/models/m/trace/setting",
            "/v2/models/m/versions/1/trace/setting",
            "/v2/cudasharedmemory/region/r/register",
            "/v2/systemsharedmemory/unregister",
            "/v1/load_lora_adapter",
            "/update_weights_from_disk",
            "/v2/repository/models/m/%6coad",
            "/v2/%6Cogging",
        ] {
            assert!(post(path), "{path}");
            assert_eq!(changed_by(&Method::GET, path).is_some(), !path.starts_with("/v2/"), "{path}");
        }
        for path in
            ["/v2/repository/index", "/v2/models/m/infer", "/v2/models/load", "/v2/systemsharedmemory/status"]
        {
            assert!(!post(path), "{path}");
        }
    }

    #[test]
    fn a_grpc_call_that_sets_nothing_reads() {
        let sets = MessageHead::read(&[0x0a, 1, b'x']);
        for method in ["LogSettings", "TraceSetting"] {
            assert!(changed_by_grpc(method, Some(&sets)).is_some(), "{method}");
            assert!(changed_by_grpc(method, None).is_some(), "{method}: nobody knows");
            assert_eq!(changed_by_grpc(method, Some(&MessageHead::default())), None, "{method}");
        }
        for method in ["RepositoryModelLoad", "CudaSharedMemoryRegister", "SystemSharedMemoryUnregister"] {
            assert!(changed_by_grpc(method, Some(&MessageHead::default())).is_some(), "{method}");
        }
        for method in ["RepositoryIndex", "ModelMetadata", "SystemSharedMemoryStatus"] {
            assert_eq!(changed_by_grpc(method, Some(&sets)), None, "{method}");
        }
    }
}
