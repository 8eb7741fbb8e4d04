//! V1 `:predict`: merged as text with V1 requests, or with V2 requests where the metadata allows it.

use bytes::Bytes;
use proptest::prelude::*;
use sluice_protocol::{
    Alone, BatchRows, Datatype, InferRequest, Limits, ModelSignature, ParseError, ResponsePart,
    TensorSignature, WireFormat, merge, merge_padded, parse_binary, parse_raw, parse_response, parse_v1,
    split,
};

use crate::client::{Style, Values, receive, request, target};

fn at(path: &str, body: &str, signature: Option<&ModelSignature>) -> Result<InferRequest, ParseError> {
    parse_v1(
        &WireFormat::V1.protocol().read_path(path).unwrap(),
        Bytes::from(body.to_owned()),
        &Limits::default(),
        signature,
    )
}

fn v1(body: &str) -> InferRequest {
    at("/v1/models/m:predict", body, None).unwrap()
}

fn text(chunks: &[Bytes]) -> String {
    String::from_utf8(chunks.concat()).unwrap()
}

fn rows<const N: usize>(requests: [usize; N]) -> BatchRows {
    BatchRows { requests: requests.into(), padding: 0 }
}

fn share(body: &str, requests: &[&InferRequest], rows: &BatchRows) -> Result<Vec<String>, String> {
    let response =
        parse_response(WireFormat::V1, None, Bytes::from(body.to_owned())).map_err(|e| e.to_string())?;
    let answers = split(&response, requests, rows).map_err(|error| error.to_string())?;
    Ok(answers.into_iter().map(|answer| text(&answer.unwrap().chunks)).collect())
}

#[test]
fn a_request_reads_as_the_metadata_say_that_are_known_when_it_is_sent() {
    let x = TensorSignature { name: "x".into(), datatype: Datatype::Fp32, shape: vec![None, Some(2)] };
    let signature = ModelSignature { inputs: vec![x], outputs: vec![] };
    let path = "/v1/models/m/versions/3:predict";
    let body = r#"{"instances":[[1,2],[3,4]]}"#;
    let (early, late) = (at(path, body, None).unwrap(), at(path, body, Some(&signature)).unwrap());
    assert!(early.v1.is_some() && late.v1.is_none() && early.key != late.key);
    let again = early.clone().read_again(Some(&signature));
    assert_eq!((&again.key, again.rows, again.inputs.len()), (&late.key, 2, 1));
    let forgotten = late.read_again(None);
    assert_eq!((&forgotten.key, &forgotten.v1), (&early.key, &early.v1));
    // A request that does not fit the metadata stays V1, with its label.
    let labelled = at("/v1/models/m/labels/new:predict", body, None).unwrap();
    assert_eq!(labelled.clone().read_again(Some(&signature)).v1, labelled.v1);

    let bytes = Bytes::from([1f32.to_le_bytes(), 2f32.to_le_bytes()].concat());
    let raw = parse_raw(&target(), bytes, &Limits::default(), None).unwrap();
    assert_eq!(raw.alone, Some(Alone::RawBinary));
    let again = raw.read_again(Some(&signature));
    assert_eq!((again.alone, again.inputs[0].shape.clone()), (None, vec![1, 2]));
    assert_eq!(again.read_again(None).alone, Some(Alone::RawBinary));
}

#[test]
fn a_step_of_a_sequence_is_known_whatever_else_sets_it_apart() {
    for stateful in [
        r#"{"instances":[1],"sequence_id":7}"#,
        r#"{"instances":[1],"parameters":{"seed":1,"sequence_id":"a"}}"#,
        r#"{"instances":[],"parameters":{"sequence_id":7}}"#,
    ] {
        assert!(v1(stateful).is_stateful(), "{stateful}");
    }
    assert!(!v1(r#"{"instances":[1],"parameters":{"sequence_id":0,"seed":1}}"#).is_stateful());
}

#[test]
fn instances_are_spliced_as_text_and_predictions_cut_as_text() {
    let one =
        v1(r#" {"instances": [ {"x":[9007199254740993, NaN]}, {"x":[1e400,2]} ],"signature_name":"s"} "#);
    let two = v1(r#"{"signature_name":"s","instances":[{"x":[0.10000000000000000000000000001,4]}]}"#);
    assert_eq!((one.format, one.rows, two.rows, one.alone), (WireFormat::V1, 2, 1, None));
    assert_eq!(one.key, two.key);
    let merged = merge(&[&one, &two], WireFormat::Binary).unwrap();
    assert_eq!(
        (merged.format, merged.content_type, merged.header_length),
        (WireFormat::V1, "application/json", None)
    );
    assert_eq!(one.path(merged.format), "/v1/models/m:predict");
    assert_eq!(
        text(&merged.chunks),
        r#"{"signature_name":"s","instances":[{"x":[9007199254740993, NaN]}, {"x":[1e400,2]},{"x":[0.10000000000000000000000000001,4]}]}"#
    );
    let answer = r#"{ "predictions": [ [ 9007199254740993, NaN ] ,{"y,]":"]"}, 3 ], "model_version":"7" }"#;
    assert_eq!(
        share(answer, &[&one, &two], &merged.rows).unwrap(),
        [
            r#"{"predictions":[[ 9007199254740993, NaN ] ,{"y,]":"]"}],"model_version":"7"}"#,
            r#"{"predictions":[3],"model_version":"7"}"#
        ]
    );
}

#[test]
fn columns_are_merged_and_split_by_their_first_dimension() {
    let one = v1(r#"{"inputs":{"a":[[1],[2]],"b":["x","y"]}}"#);
    let two = v1(r#"{"inputs":{"b":["z"],"a":[[3]]}}"#);
    assert_eq!(one.key, two.key, "the order of columns is not part of it");
    let merged = merge(&[&one, &two], WireFormat::V1).unwrap();
    assert_eq!(text(&merged.chunks), r#"{"inputs":{"a":[[1],[2],[3]],"b":["x","y","z"]}}"#);
    assert_eq!(
        share(r#"{"outputs":{"p":[[.5],[.6],[.7]],"q":[1,2,3]}}"#, &[&one, &two], &merged.rows),
        Err("the upstream's answer is not a valid inference response: not valid JSON: expected value at line 1 column 19".into()),
        "what is no JSON is not cut"
    );
    assert_eq!(
        share(r#"{"outputs":{"p":[[0.5],[0.6],[0.7]],"q":[1,2,3]}}"#, &[&one, &two], &merged.rows).unwrap(),
        [r#"{"outputs":{"p":[[0.5],[0.6]],"q":[1,2]}}"#, r#"{"outputs":{"p":[[0.7]],"q":[3]}}"#]
    );
    assert_eq!(
        share(r#"{"outputs":[[1],[2],[3]]}"#, &[&one, &two], &merged.rows).unwrap(),
        [r#"{"outputs":[[1],[2]]}"#, r#"{"outputs":[[3]]}"#]
    );
    let bare = v1(r#"{"inputs":[[1],[2]]}"#);
    assert_eq!(
        text(&merge(&[&bare, &bare], WireFormat::V1).unwrap().chunks),
        r#"{"inputs":[[1],[2],[1],[2]]}"#
    );
}

#[test]
fn a_batch_is_filled_up_by_repeating_the_last_instance() {
    let one = v1(r#"{"instances":[{"a":1},{"a":2}]}"#);
    let merged = merge_padded(&[&one], WireFormat::V1, 4).unwrap();
    assert_eq!(text(&merged.chunks), r#"{"instances":[{"a":1},{"a":2},{"a":2},{"a":2}]}"#);
    assert_eq!(
        share(r#"{"predictions":[1,2,3,4]}"#, &[&one], &merged.rows).unwrap(),
        [r#"{"predictions":[1,2]}"#]
    );
    let columns = v1(r#"{"inputs":{"a":[1],"b":[[2]]}}"#);
    let merged = merge_padded(&[&columns, &columns], WireFormat::V1, 3).unwrap();
    assert_eq!(text(&merged.chunks), r#"{"inputs":{"a":[1,1,1],"b":[[2],[2],[2]]}}"#);
}

#[test]
fn an_answer_that_does_not_have_one_item_per_instance_is_not_guessed_at() {
    let one = v1(r#"{"instances":[1]}"#);
    for answer in [
        r#"{"predictions":[1]}"#,
        r#"{"predictions":[1,2,3]}"#,
        r#"{"predictions":7}"#,
        r#"{"outputs":{"p":[1,2],"q":[1]}}"#,
        r#"{"outputs":{"p":[1,2],"q":1}}"#,
        r#"{"message":"ok"}"#,
        // It is unknown which of these belong to which client, so no client may get all of them.
        r#"{"predictions":[1,2],"scores":[0.1,0.2]}"#,
        r#"[1,2]"#,
    ] {
        assert!(share(answer, &[&one, &one], &rows([1, 1])).is_err(), "{answer}");
    }
    let own = r#"{"predictions":7,"scores":[1] }"#;
    assert_eq!(share(own, &[&one], &rows([1])).unwrap(), [own], "a request alone gets what came");
}

#[test]
fn everything_beside_the_values_is_part_of_the_key() {
    let plain = v1(r#"{"instances":[[1,2]]}"#);
    assert_eq!(v1(r#"{ "instances" : [[-7.5,NaN],[0,0]] }"#).key, plain.key, "values and rows are not");
    let at = |path, body| at(path, body, None).unwrap();
    for other in [
        v1(r#"{"instances":[[1,2,3]]}"#),
        v1(r#"{"instances":[[[1],[2]]]}"#),
        v1(r#"{"instances":[["a","b"]]}"#),
        v1(r#"{"instances":[{"a":[1,2]}]}"#),
        v1(r#"{"inputs":[[1,2]]}"#),
        v1(r#"{"inputs":{"a":[[1,2]]}}"#),
        v1(r#"{"instances":[[1,2]],"signature_name":"s"}"#),
        v1(r#"{"instances":[[1,2]],"context":{"a":1}}"#),
        at("/v1/models/m/versions/1:predict", r#"{"instances":[[1,2]]}"#),
        at("/v1/models/m/labels/1:predict", r#"{"instances":[[1,2]]}"#),
        at("/v1/models/n:predict", r#"{"instances":[[1,2]]}"#),
    ] {
        assert_ne!(other.key, plain.key, "{}", String::from_utf8_lossy(&other.body));
    }
    let fields = |body: &str| v1(body).key;
    assert_eq!(
        fields(r#"{"a":1,"instances":[1],"b":"c"}"#),
        fields(r#"{"b":"c","a":1,"instances":[2]}"#),
        "the order of fields is not"
    );
}

#[test]
fn v1_requests_that_must_not_be_merged_say_why() {
    for (body, alone) in [
        (r#"{"instances":[1]}"#, None),
        (r#"{"instances":[]}"#, Some(Alone::ZeroRows)),
        (r#"{"inputs":5}"#, Some(Alone::Scalar)),
        (r#"{"inputs":{"a":[1],"b":2}}"#, Some(Alone::Scalar)),
        (r#"{"inputs":{}}"#, Some(Alone::NoInputs)),
        (r#"{"inputs":{"a":[1],"b":[1,2]}}"#, Some(Alone::UnequalRows)),
        (r#"{"instances":[1],"stream":true}"#, Some(Alone::Streaming)),
        (r#"{"instances":[1],"stream":false}"#, None),
        (r#"{"instances":[1],"seed":3}"#, Some(Alone::Sampling)),
        (r#"{"instances":[1],"parameters":{"temperature":0.1}}"#, Some(Alone::Sampling)),
        (r#"{"instances":[1],"parameters":{"sequence_id":7}}"#, Some(Alone::Sequence)),
        (r#"{"instances":[1],"parameters":{"top":[1]}}"#, None),
    ] {
        assert_eq!(v1(body).alone, alone, "{body}");
    }
}

#[test]
fn what_is_no_v1_request_is_left_to_the_model_server() {
    let deep = format!(r#"{{"instances":[{}1{}]}}"#, "[".repeat(50), "]".repeat(50));
    for (body, expected, forwardable) in [
        ("{", "not valid JSON: EOF while parsing an object at line 1 column 1", true),
        ("[1]", "not an object", true),
        (r#"{"instances":7}"#, "neither an array 'instances' nor 'inputs'", true),
        (r#"{"instances":[1],"inputs":[1]}"#, "more than one of 'instances' and 'inputs'", true),
        (r#"{"instances":[1],"instances":[1]}"#, "more than one of 'instances' and 'inputs'", true),
        (r#"{"instances":[1],"a":1,"\u0061":2}"#, "field 'a' occurs twice", true),
        (r#"{"inputs":{"a":[1],"a":[2]}}"#, "input 'a': occurs twice", true),
        (&deep, "values are nested deeper than the limit of 16", false),
    ] {
        let error = at("/v1/models/m:predict", body, None).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_forwardable()), (expected, forwardable));
    }
}

fn tensor(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSignature {
    let shape = shape.iter().map(|dim| u64::try_from(*dim).ok()).collect();
    TensorSignature { name: name.into(), datatype, shape }
}

fn inputs<const N: usize>(inputs: [TensorSignature; N]) -> ModelSignature {
    ModelSignature { inputs: inputs.into(), outputs: Vec::new() }
}

#[test]
fn metadata_makes_v2_tensors_of_instances() {
    let one = inputs([tensor("x", Datatype::Int64, &[-1, 2])]);
    let two = inputs([tensor("a", Datatype::Int32, &[-1]), tensor("b", Datatype::Bytes, &[-1, -1])]);
    let path = "/v1/models/m:predict";
    let bare = at(path, r#"{"instances":[[1,9007199254740993],[3,4]]}"#, Some(&one)).unwrap();
    let named = at(path, r#"{"instances":[{"x":[5,6]}]}"#, Some(&one)).unwrap();
    assert_eq!((bare.rows, &bare.v1, bare.alone, &named.key), (2, &None, None, &bare.key));
    let merged = merge(&[&bare, &named], WireFormat::Binary).unwrap();
    assert_eq!(bare.path(merged.format), "/v2/models/m/infer");
    assert_eq!(
        text(&merged.chunks),
        r#"{"inputs":[{"name":"x","datatype":"INT64","shape":[3,2],"data":[[1,9007199254740993],[3,4],[5,6]]}]}"#
    );
    let several =
        at(path, r#"{"instances":[{"a":1,"b":["u","v"]},{"b":["w","x"],"a":2}]}"#, Some(&two)).unwrap();
    assert_eq!(
        text(&merge(&[&several], WireFormat::Json).unwrap().chunks),
        r#"{"inputs":[{"name":"a","datatype":"INT32","shape":[2],"data":[1,2]},{"name":"b","datatype":"BYTES","shape":[2,2],"data":[["u","v"],["w","x"]]}]}"#
    );
}

#[test]
fn what_does_not_fit_the_metadata_stays_v1() {
    let signature = inputs([tensor("a", Datatype::Int32, &[-1, 2]), tensor("b", Datatype::Int32, &[-1])]);
    let fixed = inputs([tensor("x", Datatype::Int32, &[4, 2])]);
    let half = inputs([tensor("x", Datatype::Fp16, &[-1])]);
    for (body, signature) in [
        (r#"{"instances":[[1,2]]}"#, &signature),
        (r#"{"instances":[{"a":[1,2]}]}"#, &signature),
        (r#"{"instances":[{"a":[1,2],"b":1,"c":1}]}"#, &signature),
        (r#"{"instances":[{"a":[1,2,3],"b":1}]}"#, &signature),
        (r#"{"instances":[{"a":[1,2],"b":"t"}]}"#, &signature),
        (r#"{"instances":[{"a":[1,2],"b":1},{"a":[1],"b":1}]}"#, &signature),
        (r#"{"instances":[{"a":[1,2],"b":1},3]}"#, &signature),
        // Each name occurs as often as there are rows, but not once in every row.
        (r#"{"instances":[{"a":[1,2],"b":1},{"a":[1,2],"a":[3,4]},{"b":1,"b":2}]}"#, &signature),
        (r#"{"instances":[{"a":[1,2],"b":1}],"signature_name":"other"}"#, &signature),
        (r#"{"inputs":{"a":[[1,2]],"b":[1]}}"#, &signature),
        (r#"{"instances":[[1,2],[1,2],[1,2],[1,2]]}"#, &fixed),
        (r#"{"instances":[1]}"#, &half),
    ] {
        let request = at("/v1/models/m:predict", body, Some(signature)).unwrap();
        assert!(request.v1.is_some(), "{body}");
    }
    let labelled =
        at("/v1/models/m/labels/canary:predict", r#"{"instances":[{"a":[1,2],"b":1}]}"#, Some(&signature));
    let labelled = labelled.unwrap();
    assert!(labelled.v1.is_some(), "V2 has no labels");
    assert_eq!(labelled.path(WireFormat::V1), "/v1/models/m/labels/canary:predict");
}

fn answers(
    response: &str,
    requests: &[&InferRequest],
    rows: &BatchRows,
) -> Vec<Result<ResponsePart, String>> {
    let response = parse_response(WireFormat::Json, None, Bytes::from(response.to_owned())).unwrap();
    let answers = split(&response, requests, rows).unwrap();
    answers.into_iter().map(|answer| answer.map_err(|error| error.to_string())).collect()
}

#[test]
fn v2_outputs_become_predictions() {
    let signature = inputs([tensor("x", Datatype::Int8, &[-1])]);
    let ask = at("/v1/models/m:predict", r#"{"instances":[1,2]}"#, Some(&signature)).unwrap();
    let x = Values { name: "x".into(), datatype: Datatype::Int8, shape: vec![1], elements: vec![vec![1]] };
    let neighbour = request(Style::GrpcRaw, Some("g"), &[x]);
    assert_eq!(ask.key, neighbour.key);
    for (outputs, expected) in [
        (r#"{"name":"y","shape":[3],"datatype":"FP32","data":[0.5,NaN,2]}"#, r#"{"predictions":[0.5,NaN]}"#),
        (
            r#"{"name":"y","shape":[3,2],"datatype":"INT64","data":[1,2,3,4,5,6]}"#,
            r#"{"predictions":[[1,2],[3,4]]}"#,
        ),
        (
            r#"{"name":"y","shape":[3,1],"datatype":"INT64","data":[[1], [2],[3]]}"#,
            r#"{"predictions":[[1], [2]]}"#,
        ),
        (
            r#"{"name":"y","shape":[3],"datatype":"BYTES","data":["a,","]","c"]},{"name":"z","shape":[3,1,2],"datatype":"BOOL","data":[true,true,true,false,true,true]}"#,
            r#"{"predictions":[{"y":"a,","z":[[true,true]]},{"y":"]","z":[[true,false]]}]}"#,
        ),
    ] {
        let response = format!(r#"{{"model_name":"m","outputs":[{outputs}]}}"#);
        let mut answers = answers(&response, &[&ask, &neighbour], &rows([2, 1]));
        assert_eq!(receive(&answers.remove(1).unwrap()).id.as_deref(), Some("g"));
        let answer = answers.remove(0).unwrap();
        assert_eq!((text(&answer.chunks).as_str(), answer.format), (expected, WireFormat::V1));
    }
    let scalar = r#"{"model_name":"m","outputs":[{"name":"y","shape":[1],"datatype":"INT8","data":[1]}]}"#;
    assert_eq!(
        answers(scalar, &[&ask], &rows([2])).remove(0).unwrap_err(),
        "output 'y' cannot be written in the wire format of the request: shape [1] is not one row per instance"
    );
    let head =
        r#"{"outputs":[{"name":"h","shape":[2],"datatype":"FP16","parameters":{"binary_data_size":4}}]}"#;
    let body = Bytes::from([head.as_bytes(), &[0; 4]].concat());
    let response = parse_response(WireFormat::Binary, Some(head.len()), body).unwrap();
    assert!(split(&response, &[&ask], &rows([2])).unwrap()[0].is_err(), "FP16 has no JSON form");
}

#[test]
fn a_server_of_v1_alone_gets_no_v2_batch_and_one_of_grpc_alone_no_v1_batch() {
    let v2 = crate::parsing::json(r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]}"#);
    let error = merge(&[&v2.unwrap()], WireFormat::V1).unwrap_err();
    assert_eq!(error.reason, "the model server speaks V1 alone");
    let error = merge(&[&v1(r#"{"instances":[1]}"#)], WireFormat::Grpc).unwrap_err();
    assert_eq!(error.reason, "the model server speaks gRPC alone");
}

#[test]
fn a_raw_binary_body_is_one_row_of_the_only_input() {
    let raw = |body: &[u8], signature: Option<&ModelSignature>| {
        parse_raw(&target(), Bytes::copy_from_slice(body), &Limits::default(), signature).unwrap()
    };
    let fixed = inputs([tensor("x", Datatype::Fp32, &[-1, 2])]);
    let request = raw(&[0; 8], Some(&fixed));
    assert_eq!((request.alone, request.rows, request.binary_data_output), (None, 1, true));
    assert_eq!(request.inputs[0].shape, [1, 2]);
    let header =
        r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let body = Bytes::from([header.as_bytes(), &[0; 8]].concat());
    let described = parse_binary(&target(), header.len(), body, &Limits::default()).unwrap();
    assert_eq!(request.key, described.key);
    assert!(merge(&[&request, &described], WireFormat::Binary).is_ok());

    let free = inputs([tensor("x", Datatype::Int16, &[-1, 3, -1])]);
    assert_eq!(raw(&[0; 12], Some(&free)).inputs[0].shape, [1, 3, 2]);
    let strings = inputs([tensor("x", Datatype::Bytes, &[-1, 1])]);
    let request = raw(b"abc", Some(&strings));
    assert_eq!(request.inputs[0].shape, [1, 1]);
    assert!(text(&merge(&[&request], WireFormat::Binary).unwrap().chunks).ends_with("}\x03\0\0\0abc"));

    let two = inputs([tensor("x", Datatype::Int8, &[-1]), tensor("y", Datatype::Int8, &[-1])]);
    for (body, signature) in [
        (&[0; 7][..], Some(&fixed)),
        (&[0; 16], Some(&fixed)),
        (&[0; 7], Some(&free)),
        (&[], Some(&free)),
        (&[0], Some(&two)),
        (&[0; 8], None),
        (&[0; 4], Some(&inputs([tensor("x", Datatype::Fp32, &[1])]))),
        (&[0; 4], Some(&inputs([tensor("x", Datatype::Fp32, &[-1, 0])]))),
        (&[0; 4], Some(&inputs([tensor("x", Datatype::Fp32, &[-1, -1, -1])]))),
        (b"abc", Some(&inputs([tensor("x", Datatype::Bytes, &[-1, 2])]))),
    ] {
        assert_eq!(raw(body, signature).alone, Some(Alone::RawBinary), "{body:?} {signature:?}");
    }
}

/// Generates JSON values that may be V1 instances, as text; kinds do not matter, because nothing is parsed.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "-?[1-9][0-9]{0,30}(\\.[0-9]{1,30})?",
        Just("9007199254740993".to_owned()),
        Just("NaN".to_owned()),
        Just("-Infinity".to_owned()),
        Just("-0.0".to_owned()),
        Just("null".to_owned()),
        "[a,\\]\\[{}:]{0,6}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let members = prop::collection::btree_map("[a-c]", inner.clone(), 0..3);
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(" , "))),
            members.prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merge_echo_split_gives_each_v1_client_its_own_text_back(
        first in value(), others in prop::collection::vec(prop::collection::vec(value(), 0..3), 1..5), to_rows in 0usize..12,
        columnar in any::<bool>(),
    ) {
        // The first instance of each request decides its structure.
        let clients: Vec<Vec<String>> = others.into_iter()
            .map(|others| std::iter::once(first.clone()).chain(others).collect())
            .collect();
        let field = |values: &[String]| format!("[{}]", values.join(",\n"));
        let (ask, answer) = if columnar { ("inputs", "outputs") } else { ("instances", "predictions") };
        let body = |name: &str, values: &[String]| match columnar {
            true => format!(r#"{{"{name}":{{"c":{}}}}}"#, field(values)),
            false => format!(r#"{{"{name}":{}}}"#, field(values)),
        };
        let requests: Vec<_> = clients.iter().map(|values| v1(&body(ask, values))).collect();
        let requests: Vec<_> = requests.iter().collect();
        let merged = merge_padded(&requests, WireFormat::V1, to_rows).unwrap();
        prop_assert_eq!(merged.total_rows(), to_rows.max(clients.iter().map(Vec::len).sum()));
        let echoed = text(&merged.chunks).replacen(ask, answer, 1);
        let answers = share(&echoed, &requests, &merged.rows).unwrap();
        for (got, values) in answers.iter().zip(&clients) {
            prop_assert_eq!(got, &body(answer, values));
        }
    }
}
