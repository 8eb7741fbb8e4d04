//! Responses to clients.

use bytes::Bytes;
use sluice_protocol::{BatchRows, InferResponse, WireFormat, parse_response, split};

use crate::client::{Style, Values, receive, request};
use crate::parsing::json;

fn response(text: &str) -> InferResponse {
    parse_response(WireFormat::Json, None, Bytes::from(text.to_owned())).unwrap()
}

fn rows<const N: usize>(requests: [usize; N]) -> BatchRows {
    BatchRows { requests: requests.into(), padding: 0 }
}

fn ask(outputs: &str) -> sluice_protocol::InferRequest {
    json(&format!(
        r#"{{"id":"a","inputs":[{{"name":"x","shape":[1],"datatype":"INT8","data":[1]}}]{outputs}}}"#
    ))
    .unwrap()
}

fn text(answer: &sluice_protocol::ResponsePart) -> String {
    String::from_utf8(answer.chunks.concat()).unwrap()
}

#[test]
fn json_answers_are_cut_as_text() {
    let response = response(
        r#"{"model_name":"m","model_version":"2","parameters":{"p":"q"},
            "outputs":[{"name":"y","shape":[3,1],"datatype":"FP32","data":[[0.100000000000000001],[NaN],[3]]},
                       {"name":"z","shape":[3,2],"datatype":"INT64","parameters":{"r":1},"data":[1,2,3,4,5,9007199254740993]}]}"#,
    );
    let one = ask("");
    let answers = split(&response, &[&one, &one], &rows([1, 2])).unwrap();
    let answers: Vec<_> = answers.into_iter().map(|answer| text(&answer.unwrap())).collect();
    assert_eq!(
        answers[0],
        r#"{"model_name":"m","model_version":"2","id":"a","parameters":{"p":"q"},"outputs":[{"name":"y","datatype":"FP32","shape":[1,1],"data":[[0.100000000000000001]]},{"name":"z","datatype":"INT64","shape":[1,2],"parameters":{"r":1},"data":[1,2]}]}"#
    );
    assert!(answers[1].contains(r#""data":[[NaN],[3]]"#), "{}", answers[1]);
    assert!(answers[1].contains(r#""data":[3,4,5,9007199254740993]"#), "{}", answers[1]);
}

#[test]
fn a_client_gets_the_outputs_that_it_selected() {
    let response = response(
        r#"{"model_name":"m","outputs":[{"name":"y","shape":[1],"datatype":"INT8","data":[1]},{"name":"z","shape":[1],"datatype":"INT8","data":[2]}]}"#,
    );
    let selects = ask(r#","outputs":[{"name":"z"}]"#);
    let answer = split(&response, &[&selects], &rows([1])).unwrap().remove(0).unwrap();
    let names: Vec<_> = receive(&answer).outputs.into_iter().map(|output| output.name).collect();
    assert_eq!(names, ["z"]);
}

#[test]
fn each_output_is_raw_or_json_as_its_client_asked() {
    let response = response(
        r#"{"model_name":"m","outputs":[{"name":"y","shape":[1],"datatype":"INT8","data":[1]},{"name":"z","shape":[1],"datatype":"BYTES","data":["hé"]}]}"#,
    );
    let mixed = ask(
        r#","outputs":[{"name":"y","parameters":{"binary_data":false}},{"name":"z"}],"parameters":{"binary_data_output":true}"#,
    );
    let answer = split(&response, &[&mixed], &rows([1])).unwrap().remove(0).unwrap();
    let head = answer.header_length.unwrap();
    let body = answer.chunks.concat();
    assert_eq!(&body[head..], b"\x03\0\0\0h\xc3\xa9");
    assert_eq!(receive(&answer).raw_outputs, 1);
}

#[test]
fn an_answer_that_does_not_have_one_row_per_row_is_not_guessed_at() {
    let one = ask("");
    for shape in ["[3]", "[1]"] {
        let data = if shape == "[3]" { "[1,2,3]" } else { "[1]" };
        let response = response(&format!(
            r#"{{"model_name":"m","outputs":[{{"name":"y","shape":{shape},"datatype":"INT8","data":{data}}}]}}"#
        ));
        let error = split(&response, &[&one, &one], &rows([1, 1])).unwrap_err();
        assert_eq!((error.output.as_str(), error.rows), ("y", 2));
        assert!(split(&response, &[&one], &rows([1])).is_ok(), "a request alone takes what came");
    }
}

#[test]
fn a_client_whose_form_cannot_carry_an_output_fails_alone() {
    let head = r#"{"model_name":"m","outputs":[{"name":"h","shape":[2],"datatype":"FP16","parameters":{"binary_data_size":4}}]}"#;
    let body = Bytes::from([head.as_bytes(), &[0, 60, 0, 64]].concat());
    let response = parse_response(WireFormat::Binary, Some(head.len()), body).unwrap();
    let values = Values {
        name: "x".into(),
        datatype: sluice_protocol::Datatype::Int8,
        shape: vec![1],
        elements: vec![vec![1]],
    };
    let (plain, raw) = (ask(""), request(Style::GrpcRaw, None, &[values]));
    let mut answers = split(&response, &[&plain, &raw], &rows([1, 1])).unwrap();
    assert_eq!(receive(&answers.remove(1).unwrap()).outputs[0].elements, [[0, 64]]);
    assert_eq!(
        answers.remove(0).unwrap_err().to_string(),
        "output 'h' cannot be written in the wire format of the request: FP16 has no JSON form; ask for it with binary_data"
    );
}

#[test]
fn answers_that_are_no_responses_are_refused() {
    for (text, expected) in [
        ("<html>", "not a valid JSON"),
        (r#"{"outputs":[{"name":"y","shape":[2],"datatype":"INT8","data":[1]}]}"#, "'y': data has 1 items"),
        (r#"{"outputs":[{"name":"y","shape":[2],"datatype":"INT8"}]}"#, "neither data nor binary_data_size"),
    ] {
        let error = parse_response(WireFormat::Json, None, Bytes::from(text)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(parse_response(WireFormat::Binary, Some(9), Bytes::from_static(b"{}")).is_err());
    assert!(parse_response(WireFormat::Grpc, None, Bytes::from_static(b"\x2a\xff")).is_err());
}
