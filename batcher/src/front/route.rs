//! Sorts requests into those that the batcher answers or merges itself and those that it passes on.

use http::Method;
use sluice_protocol::{Address, Target, WireFormat};

/// Kind of a request, determined from its method and path alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `POST` to an inference path of a wire format (`/v2/models/{model}/infer`, `/v1/models/{model}:predict`).
    Infer(WireFormat, Address),
    /// OpenAI's completions and `POST /v2/models/{model}[/versions/{version}]/generate[_stream]`, which model servers batch
    /// themselves.
    Stream {
        /// Name of the model, where the path has it.
        model: Option<String>,
    },
    /// `GET /v2/health/live`.
    Live,
    /// `GET /v2/health/ready`.
    Ready,
    /// `GET /v2/models/{model}[/versions/{version}]/ready`.
    ModelReady {
        /// Name of the model.
        model: String,
        /// Version of the model, where the path names one.
        version: Option<String>,
    },
    /// A method of `inference.GRPCInferenceService`.
    Grpc(GrpcMethod),
    /// A gRPC call of any other service or method.
    GrpcOther,
    /// Any other HTTP request.
    Pass,
}

/// The gRPC methods that the batcher answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GrpcMethod {
    /// `ModelInfer`.
    Infer,
    /// `ServerLive`.
    ServerLive,
    /// `ServerReady`.
    ServerReady,
    /// `ModelReady`.
    ModelReady,
}

/// Path prefix of the Open Inference Protocol's gRPC service.
pub(super) const GRPC_SERVICE: &str = "/inference.GRPCInferenceService/";

/// Returns the kind of a request. `is_grpc`: it is a gRPC call.
pub(super) fn route(method: &Method, path: &str, is_grpc: bool) -> Route {
    if is_grpc {
        return match path.strip_prefix(GRPC_SERVICE) {
            Some("ModelInfer") => Route::Grpc(GrpcMethod::Infer),
            Some("ServerLive") => Route::Grpc(GrpcMethod::ServerLive),
            Some("ServerReady") => Route::Grpc(GrpcMethod::ServerReady),
            Some("ModelReady") => Route::Grpc(GrpcMethod::ModelReady),
            _ => Route::GrpcOther,
        };
    }
    let reads = method == Method::GET || method == Method::HEAD;
    match path {
        "/v2/health/live" if reads => return Route::Live,
        "/v2/health/ready" if reads => return Route::Ready,
        _ => {}
    }
    if method == Method::POST {
        if let Some(model) = streaming(path) {
            return Route::Stream { model };
        }
        let infer = |(format, address)| Route::Infer(format, address);
        return WireFormat::of_path(path).map_or(Route::Pass, infer);
    }
    match path.strip_prefix("/v2/models/").and_then(|rest| rest.strip_suffix("/ready")) {
        Some(rest) if reads => {
            let target = Target::from_path(&format!("/v2/models/{rest}/infer"));
            target.map_or(Route::Pass, |target| Route::ModelReady {
                model: target.model,
                version: target.version,
            })
        }
        _ => Route::Pass,
    }
}

/// Paths of OpenAI's completions; some servers have them below the prefix `/openai`.
const OPENAI: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/responses"];

/// Returns `Some` for a path of a generating endpoint: with its model, or with `None` where the body names the model.
fn streaming(path: &str) -> Option<Option<String>> {
    if OPENAI.contains(&path.strip_prefix("/openai").unwrap_or(path)) {
        return Some(None);
    }
    let rest = path.strip_suffix("/generate").or_else(|| path.strip_suffix("/generate_stream"))?;
    Target::from_path(&format!("{rest}/infer")).map(|target| Some(target.model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inference_is_found_with_and_without_a_version() {
        let find = |path| route(&Method::POST, path, false);
        let target = |version: Option<&str>| {
            Address::from(Target { model: "m".into(), version: version.map(String::from) })
        };
        assert_eq!(find("/v2/models/m/infer"), Route::Infer(WireFormat::Json, target(None)));
        assert_eq!(find("/v2/models/m/versions/3/infer"), Route::Infer(WireFormat::Json, target(Some("3"))));
        for other in ["/v2/models//infer", "/v2/models/m/infer/", "/v2/models/m/infer/x"] {
            assert_eq!(find(other), Route::Pass, "{other}");
        }
        assert_eq!(route(&Method::GET, "/v2/models/m/infer", false), Route::Pass);
    }

    #[test]
    fn what_is_answered_by_generating_is_a_stream() {
        let find = |path| route(&Method::POST, path, false);
        for path in ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/openai/v1/completions"] {
            assert_eq!(find(path), Route::Stream { model: None }, "{path}");
            assert_eq!(route(&Method::GET, path, false), Route::Pass, "{path}");
        }
        for path in ["/v2/models/m/generate", "/v2/models/m/versions/2/generate_stream"] {
            assert_eq!(find(path), Route::Stream { model: Some("m".into()) }, "{path}");
        }
        for path in ["/v1/embeddings", "/generate", "/v2/models//generate", "/v1/responses/x"] {
            assert_eq!(find(path), Route::Pass, "{path}");
        }
    }

    #[test]
    fn predictions_are_ours_and_other_v1_verbs_are_not() {
        let find = |path| route(&Method::POST, path, false);
        let labelled =
            Address { target: Target { model: "m".into(), version: None }, label: Some("canary".into()) };
        assert_eq!(find("/v1/models/m/labels/canary:predict"), Route::Infer(WireFormat::V1, labelled));
        for other in ["/v1/models/m:classify", "/v1/models/m:regress", "/v1/models/m:explain"] {
            assert_eq!(find(other), Route::Pass, "{other}");
        }
        assert_eq!(route(&Method::GET, "/v1/models/m:predict", false), Route::Pass);
    }

    #[test]
    fn health_is_answered_here_and_metadata_is_not() {
        let find = |path| route(&Method::GET, path, false);
        assert_eq!(find("/v2/health/ready"), Route::Ready);
        assert_eq!(find("/v2/health/live"), Route::Live);
        let ready = |model: &str, version: Option<&str>| Route::ModelReady {
            model: model.into(),
            version: version.map(String::from),
        };
        assert_eq!(find("/v2/models/m/ready"), ready("m", None));
        assert_eq!(find("/v2/models/a%20b/ready"), ready("a b", None));
        assert_eq!(find("/v2/models/m/versions/1/ready"), ready("m", Some("1")));
        assert_eq!(find("/v2/models/m/versions/1/x/ready"), Route::Pass);
        assert_eq!(find("/v2/models/m"), Route::Pass);
        assert_eq!(find("/v2"), Route::Pass);
    }

    #[test]
    fn grpc_methods_are_told_by_their_path() {
        let find = |path| route(&Method::POST, path, true);
        assert_eq!(find("/inference.GRPCInferenceService/ModelInfer"), Route::Grpc(GrpcMethod::Infer));
        assert_eq!(find("/inference.GRPCInferenceService/ModelMetadata"), Route::GrpcOther);
        assert_eq!(find("/other.Service/ModelInfer"), Route::GrpcOther);
    }
}
