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
    for path in ["/v2", "/v2/modelsx", "/v2/models/../x", "/v2/models/%2e%2e/x", "/x%2f..%2fv2/models", "*"] {
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
