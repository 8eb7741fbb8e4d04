//! Requests whose contents lie about their size: beyond a limit they get a 4xx here; a request that is merely not valid
//! goes to the model server alone, whose error its client gets. Nothing breaks, and no other request is affected.

use serde_json::json;

use crate::client::{infer_json, post, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{settings, sidecar};

#[tokio::test]
async fn requests_that_lie_about_their_size_harm_nobody() {
    let name = "lies";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let path = format!("/v2/models/{name}/infer");
    let input = |datatype: &str, shape: serde_json::Value, data: serde_json::Value| {
        json!({"inputs": [{"name": "id", "datatype": datatype, "shape": shape, "data": data}]}).to_string()
    };
    let one = r#"{"name":"id","datatype":"INT64","shape":[1,1],"data":[1]},"#;
    let bodies = [
        ("a huge product", input("INT64", json!([1_u64 << 40, 1 << 30]), json!([1]))),
        ("a product beyond u64", input("INT64", json!([u64::MAX, u64::MAX, 3]), json!([1]))),
        ("a negative dimension", input("INT64", json!([-5, 1]), json!([1]))),
        ("a million dimensions", input("INT64", json!(vec![1; 1_000_000]), json!([1]))),
        ("a million inputs", format!(r#"{{"inputs":[{}{{}}]}}"#, one.repeat(1_000_000))),
        ("deep nesting", format!(r#"{{"inputs":{}"#, "[".repeat(1_000_000))),
        ("deep parameters", format!(r#"{{"parameters":{}1"#, r#"{"a":"#.repeat(200_000))),
    ];
    for (case, body) in bodies {
        let got = post(batcher.front, &path, body).await;
        let is_beyond_limits = case.contains("million") || case.contains("deep");
        let allowed = if is_beyond_limits { 400..500 } else { 200..500 };
        assert!(allowed.contains(&got.status), "{case}: {} {}", got.status, got.text());
    }
    let binary = async |header_length: &str, head: String, raw: &[u8]| {
        let mut request = request("POST", &path, [head.as_bytes(), raw].concat());
        request.headers_mut().insert("inference-header-content-length", header_length.parse().unwrap());
        send(batcher.front, request).await
    };
    let tensor = |datatype: &str, bytes: u64| {
        json!({"inputs": [{"name": "id", "datatype": datatype, "shape": [1, 1],
            "parameters": {"binary_data_size": bytes}}]})
        .to_string()
    };
    let good = tensor("INT64", 8);
    let length = good.len().to_string();
    for header_length in ["-1", "1e3", "18446744073709551615", "18446744073709551616", "999999", "x"] {
        let got = binary(header_length, good.clone(), &[0; 8]).await;
        assert!((400..500).contains(&got.status), "length {header_length}: {} {}", got.status, got.text());
    }
    // Data longer and shorter than it says, and strings that say they are longer than the body.
    let bytes = tensor("BYTES", 8);
    let bytes_length = bytes.len().to_string();
    let more = tensor("INT64", u64::MAX);
    let more_length = more.len().to_string();
    for (case, length, head, raw) in [
        ("too much data", &length, good.clone(), &[1; 16][..]),
        ("too little data", &length, good.clone(), &[1; 4]),
        ("a size beyond all", &more_length, more, &[1; 8]),
        ("a string of 4 GiB", &bytes_length, bytes.clone(), &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        ("a string that is cut", &bytes_length, bytes, &[5, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let got = binary(length, head, raw).await;
        // What the batcher does not understand is the model server's to judge; the stub reads anything binary.
        assert!(got.status < 500, "{case}: {} {}", got.status, got.text());
    }
    assert_eq!(infer_json(batcher.front, name, &[7]).await.output("twice"), [14]);
}
