//! Metadata of the server and of its model, for REST and gRPC.

use serde_json::{Value, json};
use sluice_protocol::grpc::model_metadata_response::TensorMetadata;
use sluice_protocol::grpc::{ModelMetadataResponse, ServerMetadataResponse};

use super::slot::Accuracy;
use crate::reference::{ID, WIDTH, X, Y};

const PLATFORM: &str = "sluice_reference_simulated";
const SERVER: &str = "sluice-loadtest model (simulated inference)";
const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_configuration", "statistics"];

/// Name, data type and second dimension of the inputs and of the outputs.
const INPUTS: [(&str, &str, usize); 2] = [(ID, "INT64", 1), (X, "FP32", WIDTH)];
const OUTPUTS: [(&str, &str, usize); 2] = [(ID, "INT64", 1), (Y, "FP32", WIDTH)];

/// `GET /v2`.
pub(super) fn server() -> Value {
    json!({ "name": SERVER, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS })
}

/// `GET /v2/models/{name}`.
pub(super) fn model(name: &str) -> Value {
    let tensors = |list: [(&str, &str, usize); 2]| {
        list.map(
            |(name, datatype, width)| json!({ "name": name, "datatype": datatype, "shape": [-1, width] }),
        )
    };
    json!({
        "name": name, "versions": ["1"], "platform": PLATFORM,
        "inputs": tensors(INPUTS), "outputs": tensors(OUTPUTS),
    })
}

/// `GET /v2/models/{name}/config`, the part of Triton's that clients look at.
pub(super) fn config(name: &str, max_batch_rows: usize) -> Value {
    let tensors = |list: [(&str, &str, usize); 2]| {
        list.map(|(name, datatype, width)| {
            json!({ "name": name, "data_type": format!("TYPE_{datatype}"), "dims": [width] })
        })
    };
    json!({
        "name": name, "platform": PLATFORM, "max_batch_size": max_batch_rows,
        "input": tensors(INPUTS), "output": tensors(OUTPUTS),
    })
}

/// `GET /v2/models/{name}/stats`.
pub(super) fn stats(name: &str, accuracy: &Accuracy) -> Value {
    let (calls, ns) = (accuracy.late_ns.len(), accuracy.achieved_total.as_nanos() as u64);
    json!({ "model_stats": [{
        "name": name, "version": "1", "inference_count": accuracy.rows, "execution_count": calls,
        "inference_stats": {
            "success": { "count": calls, "ns": ns },
            "compute_infer": { "count": calls, "ns": ns },
        },
    }] })
}

/// `ServerMetadata`.
pub(super) fn grpc_server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: SERVER.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).into(),
    }
}

/// `ModelMetadata`.
pub(super) fn grpc_model(name: &str) -> ModelMetadataResponse {
    let tensors = |list: [(&str, &str, usize); 2]| {
        let tensor = |(name, datatype, width): (&str, &str, usize)| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![-1, width as i64],
        };
        list.map(tensor).into()
    };
    ModelMetadataResponse {
        name: name.to_owned(),
        versions: vec!["1".to_owned()],
        platform: PLATFORM.to_owned(),
        inputs: tensors(INPUTS),
        outputs: tensors(OUTPUTS),
    }
}
