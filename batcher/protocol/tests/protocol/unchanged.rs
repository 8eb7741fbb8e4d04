//! A request that is alone in its batch is sent unchanged, and gets the model server's response unchanged.

use bytes::Bytes;
use sluice_protocol::{
    InferRequest, Limits, WireFormat, merge, merge_padded, parse_binary, parse_json, unchanged_response,
};

use crate::client::target;

/// A request with blanks that would be lost if it were written anew.
const JSON: &str =
    r#"{ "id":"a" , "inputs": [{"name":"x","datatype":"FP32","shape":[1,2],"data":[1.50, 2]}] }"#;
const SERVED: &[u8] = br#"{"model_name":"m", "id":"a","outputs":[]}"#;

fn json(text: &str) -> InferRequest {
    parse_json(&target(), Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).unwrap()
}

/// Returns `head` and four bytes of a tensor.
fn binary(head: &str) -> InferRequest {
    let body = Bytes::from([head.as_bytes(), &[1, 2, 3, 4]].concat());
    parse_binary(&target(), head.len(), body, &Limits::default()).unwrap()
}

fn raw_head(parameters: &str) -> String {
    format!(
        r#"{{"parameters":{{{parameters}}}, "inputs":[{{"name":"x","datatype":"INT8","shape":[1,4],"parameters":{{"binary_data_size":4}}}}]}}"#
    )
}

/// Returns whether a request is sent unchanged to a server that reads `upstream`, and gets the response unchanged.
fn is_unchanged(request: &InferRequest, upstream: WireFormat) -> bool {
    let merged = merge(&[request], upstream).unwrap();
    let sent = merged.chunks.concat() == request.body && merged.header_length == request.header_length;
    let served = Bytes::from_static(SERVED);
    let answer = unchanged_response(request, merged.format, &merged.rows, None, &served);
    assert_eq!(answer.is_some(), sent, "way there and way back go together");
    if let Some(answer) = answer {
        assert_eq!(answer.format, request.format);
        assert_eq!((answer.header_length, answer.content_type), (None, "application/json"));
        assert_eq!((answer.body_bytes, answer.chunks.concat()), (SERVED.len(), SERVED.to_vec()));
    }
    sent
}

#[test]
fn a_json_request_goes_as_it_came_to_servers_of_either_rest_form() {
    let request = json(JSON);
    assert!(is_unchanged(&request, WireFormat::Json));
    assert!(is_unchanged(&request, WireFormat::Binary));
    assert_eq!(merge(&[&request], WireFormat::Binary).unwrap().content_type, "application/json");
    assert!(!is_unchanged(&request, WireFormat::Grpc));
}

#[test]
fn a_binary_request_goes_as_it_came_where_the_server_reads_it() {
    let request = binary(&raw_head(r#""binary_data_output":true"#));
    assert!(is_unchanged(&request, WireFormat::Binary));
    assert!(!is_unchanged(&request, WireFormat::Json));
    let merged = merge(&[&request], WireFormat::Binary).unwrap();
    let served = Bytes::from_static(b"{}\x01");
    let answer = unchanged_response(&request, merged.format, &merged.rows, Some(2), &served).unwrap();
    assert_eq!((answer.header_length, answer.content_type), (Some(2), "application/octet-stream"));
}

#[test]
fn what_has_to_be_written_anew_is() {
    let with = |field: &str| json(&JSON.replacen('{', &format!("{{{field},"), 1));
    for field in [
        r#""parameters":{"timeout":5000}"#,
        r#""parameters":{"priority":1}"#,
        r#""parameters":{"binary_data_output":true}"#,
        r#""outputs":[{"name":"y"}]"#,
        // `null` means a missing value, but not every server reads it.
        r#""outputs":null"#,
        r#""parameters":null"#,
        r#""parameters":{"own":null}"#,
    ] {
        assert!(!is_unchanged(&with(field), WireFormat::Binary), "{field}");
    }
    assert!(!is_unchanged(&binary(&raw_head("")), WireFormat::Binary), "its outputs are wanted as JSON");
    for (field, without) in [(r#""id":"a""#, r#""id":null"#), (r#""shape""#, r#""parameters":null,"shape""#)]
    {
        assert!(!is_unchanged(&json(&JSON.replace(field, without)), WireFormat::Binary), "{without}");
    }
    let nameless = InferRequest { id: None, is_verbatim: false, ..json(JSON) };
    assert!(!is_unchanged(&nameless, WireFormat::Json), "its body has the id still");
}

#[test]
fn company_and_padding_change_it() {
    let request = json(JSON);
    let two = merge(&[&request, &request], WireFormat::Json).unwrap();
    let padded = merge_padded(&[&request], WireFormat::Json, 2).unwrap();
    let served = Bytes::from_static(SERVED);
    for merged in [two, padded] {
        assert_ne!(merged.chunks.concat(), request.body);
        assert!(unchanged_response(&request, merged.format, &merged.rows, None, &served).is_none());
    }
}

#[test]
fn an_id_that_the_server_does_not_repeat_is_added() {
    let request = json(JSON);
    let merged = merge(&[&request], WireFormat::Json).unwrap();
    for (served, is_unchanged) in [
        (r#"{"model_name":"m","id": "a","outputs":[]}"#, true),
        (r#"{"model_name":"m","outputs":[]}"#, false),
        (r#"{"model_name":"m","id":"b","outputs":[]}"#, false),
        (r#"{"model_name":"a","outputs":[]}"#, false),
        (r#"{"model_name":"m" , "id" : "a"}"#, true),
    ] {
        let answer = unchanged_response(&request, merged.format, &merged.rows, None, &Bytes::from(served));
        assert_eq!(answer.is_some(), is_unchanged, "{served}");
    }
    let nameless = json(&JSON.replace(r#""id":"a" ,"#, ""));
    let served = Bytes::from_static(br#"{"model_name":"m","outputs":[]}"#);
    assert!(unchanged_response(&nameless, merged.format, &merged.rows, None, &served).is_some());
}
