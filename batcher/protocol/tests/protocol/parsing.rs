//! Requests that are accepted, that must be sent alone, and that are refused, with the texts of the errors.

use bytes::Bytes;
use prost::Message;
use sluice_protocol::grpc::model_infer_request::InferInputTensor;
use sluice_protocol::grpc::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice};
use sluice_protocol::{
    Alone, InferRequest, Limits, Parameter, ParseError, ParseErrorKind, WireFormat, parse_binary, parse_grpc,
    parse_json,
};

use crate::client::target;

pub(crate) fn json(body: &str) -> Result<InferRequest, ParseError> {
    parse_json(&target(), Bytes::from(body.to_owned()), &Limits::default())
}

fn with_input(input: &str) -> Result<InferRequest, ParseError> {
    json(&format!(r#"{{"inputs":[{input}]}}"#))
}

const INPUT: &str = r#"{"name":"x","shape":[2,2],"datatype":"INT64","data":[1,2,3,4]}"#;

#[test]
fn a_plain_request_is_read_with_what_we_consume_taken_out() {
    let request = json(&format!(
        r#"{{"id":"7","parameters":{{"priority":1,"timeout":5000,"binary_data_output":true,"k":"v","f":0.5}},
            "inputs":[{INPUT}],"outputs":[{{"name":"y","parameters":{{"classification":3,"binary_data":false}}}}]}}"#
    ))
    .unwrap();
    assert_eq!((request.format, request.rows, request.alone), (WireFormat::Json, 2, None));
    assert_eq!(request.id.as_deref(), Some("7"));
    assert_eq!(
        (request.priority, request.timeout_us, request.binary_data_output),
        (Some(1), Some(5000), true)
    );
    let expected = [("f".into(), Parameter::Double(0.5)), ("k".into(), Parameter::Text("v".into()))];
    assert_eq!(request.parameters, expected.into());
    assert_eq!(request.outputs[0].binary_data, Some(false));
    assert_eq!(request.outputs[0].parameters, [("classification".into(), Parameter::Int(3))].into());
}

#[test]
fn a_request_with_null_goes_alone_for_its_server_to_read_or_to_refuse() {
    let document = |fields: &str, tensor: &str| {
        json(&format!(
            r#"{{{fields}"inputs":[{{"name":"x","shape":[1],"datatype":"BOOL"{tensor},"data":[true]}}]}}"#
        ))
    };
    for (fields, tensor) in [
        (r#""id":null,"#, ""),
        (r#""parameters":null,"#, ""),
        (r#""parameters":{"a":null},"#, ""),
        (r#""parameters":{"a":null,"a":1},"#, ""),
        (r#""outputs":null,"#, ""),
        (r#""outputs":[{"name":"y","parameters":null}],"#, ""),
        (r#""outputs":[{"name":"y","parameters":{"a":null}}],"#, ""),
        (r#""model_name":null,"#, ""),
        ("", r#","parameters":null"#),
        ("", r#","parameters":{"a":null}"#),
    ] {
        let request = document(fields, tensor).unwrap();
        assert_eq!(request.alone, Some(Alone::Null), "{fields} {tensor}");
    }
    // Where null, or a second value, leaves nothing to read, the body is forwarded as it is.
    let wrong = [
        (r#""id":"a","id":"b","#, ""),
        (r#""id":null,"id":"b","#, ""),
        (r#""parameters":{},"parameters":null,"#, ""),
        (r#""parameters":{"a":1,"a":1},"#, ""),
        (r#""id":5,"#, ""),
        (r#""parameters":[],"#, ""),
        (r#""parameters":{"a":{}},"#, ""),
        (r#""outputs":{},"#, ""),
        (r#""inputs":null,"#, ""),
        ("", r#","shape":[1]"#),
        ("", r#","parameters":7"#),
    ];
    for (fields, tensor) in wrong {
        assert!(document(fields, tensor).unwrap_err().is_forwardable(), "{fields} {tensor}");
    }
    for field in ["name", "shape", "datatype", "data"] {
        let body = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"BOOL","data":[true]}]}"#;
        let value = [("name", r#""x""#), ("shape", "[1]"), ("datatype", r#""BOOL""#), ("data", "[true]")];
        let value = value.iter().find(|(name, _)| *name == field).unwrap().1;
        let body = body.replace(&format!(r#""{field}":{value}"#), &format!(r#""{field}":null"#));
        assert!(json(&body).unwrap_err().is_forwardable(), "{body}");
    }
    assert_eq!(json(r#"{"inputs":null}"#).unwrap().alone, Some(Alone::Null));
}

#[test]
fn a_grpc_parameter_without_a_value_goes_alone() {
    let none =
        || std::collections::BTreeMap::from([("a".to_owned(), InferParameter { parameter_choice: None })]);
    let input = || sluice_protocol::grpc::model_infer_request::InferInputTensor {
        name: "x".into(),
        datatype: "BOOL".into(),
        shape: vec![1],
        ..Default::default()
    };
    let request = |parameters, input| {
        let message = ModelInferRequest {
            model_name: "m".into(),
            parameters,
            inputs: vec![input],
            raw_input_contents: vec![vec![1].into()],
            ..Default::default()
        };
        parse_grpc(message.encode_to_vec().into(), &Limits::default()).unwrap().alone
    };
    assert_eq!(request(none(), input()), Some(Alone::Null));
    let of_input =
        sluice_protocol::grpc::model_infer_request::InferInputTensor { parameters: none(), ..input() };
    assert_eq!(request(Default::default(), of_input), Some(Alone::Null));
    assert_eq!(request(Default::default(), input()), None);
}

#[test]
fn limits_of_tensors_and_parameters_name_their_settings() {
    let limits = Limits { tensors: 2, parameters: 1, ..Limits::default() };
    let of =
        |body: &str| parse_json(&target(), Bytes::from(body.to_owned()), &limits).unwrap_err().to_string();
    let input = r#"{"name":"x","shape":[1],"datatype":"BOOL","data":[true]}"#;
    assert_eq!(of(&format!(r#"{{"inputs":[{input},{input},{input}]}}"#)), "more than 2 tensors (maxTensors)");
    assert_eq!(of(r#"{"parameters":{"a":1,"b":2},"inputs":[]}"#), "more than 1 parameters (maxParameters)");
    let many = Limits { tensors: 300, ..Limits::default() };
    let inputs = (0..300).map(|at| input.replace('x', &format!("x{at}"))).collect::<Vec<_>>().join(",");
    let body = Bytes::from(format!(r#"{{"inputs":[{inputs}]}}"#));
    assert_eq!(parse_json(&target(), body.clone(), &many).unwrap().inputs.len(), 300);
    assert!(parse_json(&target(), body, &Limits::default()).is_err());
}

#[test]
fn requests_that_must_not_be_merged_say_why() {
    let with_parameter =
        |parameter: &str| json(&format!(r#"{{"parameters":{{{parameter}}},"inputs":[{INPUT}]}}"#));
    let x = |shape: &str, data: &str| {
        with_input(&format!(r#"{{"name":"x","shape":{shape},"datatype":"INT64","data":{data}}}"#))
    };
    for (request, alone) in [
        (with_parameter(r#""sequence_id":5"#), Some(Alone::Sequence)),
        (with_parameter(r#""sequence_id":"a""#), Some(Alone::Sequence)),
        (with_parameter(r#""sequence_id":0"#), None),
        (with_parameter(r#""stream":true"#), Some(Alone::Streaming)),
        (with_parameter(r#""temperature":0.5"#), Some(Alone::Sampling)),
        (with_parameter(r#""triton_enable_empty_final_response":true"#), Some(Alone::ServerParameter)),
        (
            with_input(
                r#"{"name":"x","shape":[1],"datatype":"FP16","parameters":{"shared_memory_region":"r","shared_memory_byte_size":2}}"#,
            ),
            Some(Alone::SharedMemory),
        ),
        (json(r#"{"inputs":[]}"#), Some(Alone::NoInputs)),
        (x("[]", "[1]"), Some(Alone::Scalar)),
        (x("[0,2]", "[]"), Some(Alone::ZeroRows)),
        (
            with_input(&format!(r#"{INPUT},{{"name":"n","shape":[1],"datatype":"INT64","data":[9]}}"#)),
            Some(Alone::UnequalRows),
        ),
        (with_input(&format!("{INPUT},{INPUT}")), Some(Alone::DuplicateName)),
        (json(&format!(r#"{{"inputs":[{INPUT}],"extra":{{"a":[1]}}}}"#)), Some(Alone::UnknownField)),
        (
            parse_binary(&target(), 0, Bytes::from_static(b"\0\0\0\0"), &Limits::default()),
            Some(Alone::RawBinary),
        ),
    ] {
        assert_eq!(request.map(|request| request.alone), Ok(alone));
    }
}

#[test]
fn malformed_requests_name_the_input_and_are_left_to_the_model_server() {
    for (request, expected) in [
        (json("{"), "not a valid JSON request: EOF while parsing an object at line 1 column 1"),
        (
            with_input(r#"{"name":"x","shape":[2],"datatype":"INT64","data":[1]}"#),
            "input 'x': data has 1 items where 2 are expected (flat, 2 elements by its shape)",
        ),
        (
            with_input(r#"{"name":"x","shape":[1],"datatype":"INT128","data":[1]}"#),
            "input 'x': datatype 'INT128' is not known",
        ),
        (
            with_input(r#"{"name":"x","shape":[1],"datatype":"INT64","data":["a"]}"#),
            "input 'x': data contains \"a\", which is no INT64",
        ),
        (
            with_input(r#"{"name":"x","shape":[1],"datatype":"INT64"}"#),
            "input 'x': has neither data nor binary_data_size",
        ),
        (with_input(r#"{"shape":[1],"datatype":"INT64","data":[1]}"#), "a tensor has no name"),
        (
            with_input(r#"{"name":"x","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}"#),
            "input 'x': has binary_data_size, but there is no header Inference-Header-Content-Length",
        ),
    ] {
        let error = request.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.is_forwardable());
    }
}

#[test]
fn nan_is_read_among_data_and_nowhere_else() {
    let data = r#"{"name":"x","shape":[3],"datatype":"FP32","data":[NaN,-Infinity,1]}"#;
    assert_eq!(with_input(data).unwrap().alone, None);
    let elsewhere = json(&format!(r#"{{"parameters":{{"p":NaN}},"inputs":[{data}]}}"#));
    assert!(elsewhere.unwrap_err().is_forwardable());
}

#[test]
fn binary_sizes_must_add_up() {
    let header =
        r#"{"inputs":[{"name":"x","shape":[2],"datatype":"INT32","parameters":{"binary_data_size":8}}]}"#;
    let binary = |length: usize, raw: &[u8]| {
        let body = Bytes::from([header.as_bytes(), raw].concat());
        parse_binary(&target(), length, body, &Limits::default())
    };
    assert_eq!(binary(header.len(), &[0; 8]).unwrap().rows, 2);
    for (length, raw, expected) in [
        (header.len(), &[0; 7][..], "input 'x': binary_data_size is 8, but only 7 bytes are left"),
        (header.len(), &[0; 9], "bytes follow the last input's binary data"),
        (1000, &[0; 8], "Inference-Header-Content-Length is 1000, but the body has 100 bytes"),
    ] {
        let error = binary(length, raw).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_forwardable()), (expected, true));
    }
}

#[test]
fn what_is_beyond_the_limits_is_refused_here() {
    let limits = Limits {
        body_bytes: 400,
        header_bytes: 300,
        tensors: 2,
        parameters: 1,
        rank: 3,
        elements: 8,
        json_depth: 2,
    };
    let read = |body: String| parse_json(&target(), Bytes::from(body), &limits).map(|_| ()).unwrap_err();
    let x = |shape: &str, data: &str| {
        read(format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"INT8","data":{data}}}]}}"#))
    };
    for (error, expected) in [
        (read(" ".repeat(401)), "the body has 401 bytes, the limit is 400"),
        (read(r#"{"inputs":[{},{},{}]}"#.into()), "more than 2 tensors (maxTensors)"),
        (read(r#"{"parameters":{"a":1,"b":2}}"#.into()), "more than 1 parameters (maxParameters)"),
        (x("[1,1,1,1]", "[1]"), "more than 3 dimensions"),
        (x("[9]", "[1]"), "input 'x': shape [9] has more elements than the limit of 8"),
        (
            x("[4294967296,4294967296,4294967296]", "[1]"),
            "input 'x': shape [4294967296, 4294967296, 4294967296] has more elements than the limit of 8",
        ),
        // No elements, but a shape that would overflow once other requests' rows are added to it.
        (
            x("[1,9223372036854775808,0]", "[]"),
            "input 'x': shape [1, 9223372036854775808, 0] has more elements than the limit of 8",
        ),
        (x("[1,1,1]", "[[[1]]]"), "input 'x': data is nested deeper than the limit of 2"),
    ] {
        assert_eq!((error.to_string().as_str(), error.is_forwardable()), (expected, false));
    }
    let long_header = parse_binary(&target(), 301, Bytes::from(vec![b' '; 350]), &limits).unwrap_err();
    assert_eq!(long_header.kind, ParseErrorKind::Limit);

    let many = ModelInferRequest { inputs: vec![InferInputTensor::default(); 3], ..Default::default() };
    let error = parse_grpc(many.encode_to_vec().into(), &limits).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.is_forwardable()),
        ("more than 2 tensors (maxTensors)", false)
    );
    let parameters = ["a", "b"].map(|name| (name.to_owned(), InferParameter::default()));
    let input = InferInputTensor { parameters: parameters.into(), ..Default::default() };
    let many = ModelInferRequest { inputs: vec![input], ..Default::default() };
    let error = parse_grpc(many.encode_to_vec().into(), &limits).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.is_forwardable()),
        ("more than 1 parameters (maxParameters)", false)
    );
}

fn grpc(change: impl FnOnce(&mut ModelInferRequest)) -> Result<InferRequest, ParseError> {
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "INT64".into(),
        shape: vec![2, 2],
        ..Default::default()
    };
    let mut request = ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from(vec![0; 32])],
        ..Default::default()
    };
    change(&mut request);
    parse_grpc(request.encode_to_vec().into(), &Limits::default())
}

#[test]
fn grpc_and_json_requests_of_one_signature_share_a_key() {
    let json = json(&format!(r#"{{"parameters":{{"k":3,"timeout":9}},"inputs":[{INPUT}]}}"#)).unwrap();
    let parameter = InferParameter { parameter_choice: Some(ParameterChoice::Uint64Param(3)) };
    let same = grpc(|request| request.parameters = [("k".into(), parameter.clone())].into()).unwrap();
    assert_eq!((same.format, same.rows, same.alone), (WireFormat::Grpc, 2, None));
    assert_eq!(same.key, json.key);
    for other in [
        grpc(|_| {}),
        grpc(|request| {
            request.parameters = [("k".into(), parameter.clone())].into();
            request.model_version = "1".into();
        }),
    ] {
        assert_ne!(other.unwrap().key, json.key);
    }
}

#[test]
fn each_part_of_the_signature_is_part_of_the_key() {
    let plain = with_input(INPUT).unwrap();
    let key = |request: Result<InferRequest, ParseError>| request.unwrap().key;
    for other in [
        with_input(r#"{"name":"z","shape":[2,2],"datatype":"INT64","data":[1,2,3,4]}"#),
        with_input(r#"{"name":"x","shape":[2,1],"datatype":"INT64","data":[1,2]}"#),
        with_input(r#"{"name":"x","shape":[2,2,1],"datatype":"INT64","data":[1,2,3,4]}"#),
        with_input(r#"{"name":"x","shape":[2,2],"datatype":"INT32","data":[1,2,3,4]}"#),
        with_input(r#"{"name":"x","shape":[2,2],"datatype":"INT64","parameters":{"p":1},"data":[1,2,3,4]}"#),
        json(&format!(r#"{{"inputs":[{INPUT}],"outputs":[{{"name":"y"}}]}}"#)),
        json(&format!(r#"{{"inputs":[{INPUT}],"parameters":{{"p":"1"}}}}"#)),
    ] {
        assert_ne!(key(other), plain.key);
    }
    let one_row = with_input(r#"{"name":"x","shape":[1,2],"datatype":"INT64","data":[[1,2]]}"#);
    assert_eq!(key(one_row), plain.key, "rows are not");
}

#[test]
fn malformed_grpc_requests_name_the_input() {
    for (request, expected) in [
        (
            grpc(|r| r.raw_input_contents.clear()),
            "input 'x': holds 0 bytes where its shape and datatype need 32",
        ),
        (grpc(|r| r.raw_input_contents.push(Bytes::new())), "2 raw contents for 1 tensors"),
        (
            grpc(|r| r.inputs[0].contents = Some(Default::default())),
            "input 'x': has both typed and raw contents",
        ),
        (grpc(|r| r.inputs[0].shape = vec![-1]), "input 'x': shape [-1] has a negative dimension"),
    ] {
        let error = request.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_forwardable()), (expected, true));
    }
    assert!(parse_grpc(Bytes::from_static(b"\x2a\xff"), &Limits::default()).unwrap_err().is_forwardable());
}
