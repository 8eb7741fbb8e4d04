//! Bodies for model servers, byte for byte.

use bytes::Bytes;
use sluice_protocol::{Datatype, InferRequest, Merged, TensorData, WireFormat, merge, merge_padded};

use crate::client::{Style, Values, request};
use crate::parsing::json;

fn body(merged: &Merged) -> String {
    String::from_utf8_lossy(&merged.chunks.concat()).into_owned()
}

fn x(data: &str, shape: &str, datatype: &str) -> InferRequest {
    json(&format!(
        r#"{{"id":"secret","inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#
    ))
    .unwrap()
}

#[test]
fn json_requests_are_spliced_as_text() {
    let one = x("[0.10000000000000000000000000001, NaN]", "[1,2]", "FP64");
    let two = x("[1e0,2,3,4]", "[2,2]", "FP64");
    let merged = merge(&[&one, &two], WireFormat::Binary).unwrap();
    assert_eq!((merged.format, merged.header_length, merged.total_rows()), (WireFormat::Json, None, 3));
    assert_eq!(
        body(&merged),
        r#"{"inputs":[{"name":"x","datatype":"FP64","shape":[3,2],"data":[0.10000000000000000000000000001, NaN,1e0,2,3,4]}]}"#
    );
}

#[test]
fn nested_texts_stay_nested_and_become_flat_only_beside_flat_ones() {
    let nested = x("[[1,2]]", "[1,2]", "INT64");
    let flat = x("[9007199254740993,4]", "[1,2]", "INT64");
    let both_nested = merge(&[&nested, &nested], WireFormat::Json).unwrap();
    assert!(body(&both_nested).contains(r#""data":[[1,2],[1,2]]"#), "{}", body(&both_nested));
    let mixed = merge(&[&nested, &flat], WireFormat::Json).unwrap();
    assert!(body(&mixed).contains(r#""data":[1,2,9007199254740993,4]"#), "{}", body(&mixed));
}

#[test]
fn parameters_and_selected_outputs_go_along_and_what_we_consume_does_not() {
    let request = json(
        r#"{"parameters":{"timeout":1,"k":true},"inputs":[{"name":"x","shape":[1],"datatype":"BOOL","parameters":{"p":1},"data":[true]}],
            "outputs":[{"name":"y","parameters":{"classification":2}}]}"#,
    )
    .unwrap();
    let spliced = merge(&[&request, &request], WireFormat::Json).unwrap();
    assert_eq!(
        body(&spliced),
        r#"{"inputs":[{"name":"x","datatype":"BOOL","shape":[2],"parameters":{"p":1},"data":[true,true]}],"parameters":{"k":true},"outputs":[{"name":"y","parameters":{"classification":2}}]}"#
    );
    let wants_raw = json(
        r#"{"parameters":{"binary_data_output":true,"k":true},"inputs":[{"name":"x","shape":[1],"datatype":"BOOL","parameters":{"p":1},"data":[false]}],
            "outputs":[{"name":"y","parameters":{"classification":2}}]}"#,
    )
    .unwrap();
    let mixed = merge(&[&request, &wants_raw], WireFormat::Binary).unwrap();
    let head = r#"{"inputs":[{"name":"x","datatype":"BOOL","shape":[2],"parameters":{"binary_data_size":2,"p":1}}],"parameters":{"binary_data_output":true,"k":true},"outputs":[{"name":"y","parameters":{"binary_data":true,"classification":2}}]}"#;
    assert_eq!(body(&mixed), format!("{head}\u{1}\0"));
    assert_eq!(mixed.header_length, Some(head.len()));
}

fn tensor(rows: u64, columns: u64, fill: u8) -> Values {
    let elements = vec![vec![fill; 4]; (rows * columns) as usize];
    Values { name: "x".into(), datatype: Datatype::Fp32, shape: vec![rows, columns], elements }
}

/// Returns whether `chunk` lies within the client's own body.
fn is_slice_of(chunk: &Bytes, request: &InferRequest) -> bool {
    request.body.as_ptr_range().contains(&chunk.as_ptr())
}

#[test]
fn raw_tensors_are_sent_from_the_clients_own_buffers() {
    // 600 KB each.
    let values = [tensor(1, 150_000, 1), tensor(2, 150_000, 2)];
    for (styles, upstream) in [
        ([Style::Binary, Style::Binary], WireFormat::Binary),
        ([Style::Binary, Style::GrpcRaw], WireFormat::Binary),
        ([Style::GrpcRaw, Style::Binary], WireFormat::Grpc),
    ] {
        let one = request(styles[0], None, &values[..1]);
        let two = request(styles[1], None, &values[1..]);
        let merged = merge(&[&one, &two], upstream).unwrap();
        let copied: usize = merged
            .chunks
            .iter()
            .filter(|chunk| !is_slice_of(chunk, &one) && !is_slice_of(chunk, &two))
            .map(Bytes::len)
            .sum();
        assert!(copied < 500, "{copied} bytes were copied of {}", merged.body_bytes);
        assert_eq!(merged.chunks.len(), 3);
    }
}

#[test]
fn json_tensors_are_slices_of_the_body_and_spliced_without_a_copy() {
    let long = format!("[{}]", vec!["12345"; 1000].join(","));
    let (one, two) = (x(&long, "[1,1000]", "INT64"), x(&long, "[1,1000]", "INT64"));
    let TensorData::Json { text, .. } = &one.inputs[0].data else { panic!("JSON stays JSON") };
    assert!(is_slice_of(text, &one));
    let merged = merge(&[&one, &two], WireFormat::Json).unwrap();
    assert_eq!(
        merged.chunks.iter().filter(|chunk| is_slice_of(chunk, &one) || is_slice_of(chunk, &two)).count(),
        2
    );
}

#[test]
fn a_number_that_its_datatype_cannot_hold_names_the_request_to_send_alone() {
    let raw = Values { name: "x".into(), datatype: Datatype::Uint8, shape: vec![1], elements: vec![vec![7]] };
    let binary = request(Style::Binary, None, &[raw]);
    let wrong = x("[256]", "[1]", "UINT8");
    let error = merge(&[&binary, &wrong], WireFormat::Binary).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request 1 of the batch cannot be merged: input 'x': 256 is not a value of UINT8"
    );
    // In a batch of JSON alone the number is not parsed: the model server judges it.
    assert!(merge(&[&wrong, &wrong], WireFormat::Binary).is_ok());
}

#[test]
fn a_batch_is_filled_up_by_repeating_its_last_row() {
    let flat = x("[1,2, 3,4]", "[2,2]", "INT64");
    let nested = x("[ [5,6] , [7,8] ]", "[2,2]", "INT64");
    for (requests, expected) in [
        ([&flat, &flat], r#""shape":[6,2],"data":[1,2, 3,4,1,2, 3,4,3,4,3,4]"#),
        ([&nested, &nested], r#""shape":[6,2],"data":[[5,6] , [7,8],[5,6] , [7,8],[7,8],[7,8]]"#),
        ([&flat, &nested], r#""shape":[6,2],"data":[1,2, 3,4,5,6,7,8,7,8,7,8]"#),
    ] {
        let merged = merge_padded(&requests, WireFormat::Json, 6).unwrap();
        assert!(body(&merged).contains(expected), "{}", body(&merged));
        assert_eq!((merged.total_rows(), merged.rows.padding), (6, 2));
    }
    assert_eq!(merge_padded(&[&flat], WireFormat::Json, 2).unwrap().rows.padding, 0);

    let strings = Values {
        name: "x".into(),
        datatype: Datatype::Bytes,
        shape: vec![2],
        elements: vec![b"first".to_vec(), b"last".to_vec()],
    };
    let merged = merge_padded(&[&request(Style::Binary, None, &[strings])], WireFormat::Binary, 3).unwrap();
    assert!(body(&merged).ends_with("}\x05\0\0\0first\x04\0\0\0last\x04\0\0\0last"), "{}", body(&merged));

    let scalar = x("[1]", "[]", "INT64");
    let error = merge_padded(&[&scalar], WireFormat::Json, 2).unwrap_err();
    assert_eq!((error.index, error.reason.as_str()), (0, "the request goes alone (scalar)"));
}

#[test]
fn requests_that_must_not_share_a_batch_are_refused() {
    let one = x("[1]", "[1]", "INT64");
    let other = x("[1]", "[1]", "INT32");
    assert_eq!(merge(&[&one, &other], WireFormat::Binary).unwrap_err().index, 1);
    let scalar = x("[1]", "[]", "INT64");
    assert_eq!(merge(&[&scalar, &scalar], WireFormat::Binary).unwrap_err().index, 1);
    assert!(merge(&[], WireFormat::Binary).is_err());
}

#[test]
fn a_request_alone_is_carried_to_a_server_of_another_form() {
    let values = Values {
        name: "x".into(),
        datatype: Datatype::Int64,
        shape: vec![],
        elements: vec![5i64.to_le_bytes().into()],
    };
    let scalar = request(Style::GrpcRaw, Some("7"), &[values]);
    let merged = merge(&[&scalar], WireFormat::Json).unwrap();
    assert_eq!(
        body(&merged),
        r#"{"id":"7","inputs":[{"name":"x","datatype":"INT64","shape":[],"data":[5]}]}"#
    );
    let half =
        Values { name: "x".into(), datatype: Datatype::Fp16, shape: vec![1], elements: vec![vec![0, 0]] };
    let error = merge(&[&request(Style::GrpcRaw, None, &[half])], WireFormat::Json).unwrap_err();
    assert_eq!(error.reason, "input 'x': FP16 has no JSON form");
}

#[test]
fn a_request_alone_keeps_its_id_for_the_servers_errors_and_gives_it_up_in_company() {
    let request = x("[1]", "[1]", "INT64");
    for format in [WireFormat::Json, WireFormat::Grpc] {
        let alone = merge(&[&request], format).unwrap();
        assert!(body(&alone).contains("secret"), "{format:?}: {}", body(&alone));
        let together = merge(&[&request, &request], format).unwrap();
        assert!(!body(&together).contains("secret"), "{format:?}: {}", body(&together));
    }
    let raw = Values {
        name: "x".into(),
        datatype: Datatype::Int64,
        shape: vec![1],
        elements: vec![5i64.to_le_bytes().into()],
    };
    let raw = request_of(&raw);
    let merged = merge(&[&raw], WireFormat::Binary).unwrap();
    let head = r#"{"id":"say \"hi\"","inputs":["#;
    assert!(body(&merged).starts_with(head), "{}", body(&merged));
    assert!(!body(&merge(&[&raw, &raw], WireFormat::Binary).unwrap()).contains("hi"));
}

fn request_of(values: &Values) -> InferRequest {
    request(Style::GrpcRaw, Some(r#"say "hi""#), std::slice::from_ref(values))
}
