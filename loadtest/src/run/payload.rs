//! Requests of a run. They are built before they are due.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_protocol::HEADER_LENGTH;
use sluice_protocol::grpc::model_infer_request::InferInputTensor;
use sluice_protocol::grpc::{self, ModelInferRequest};

use crate::plan::{Payload, Plan, Protocol};
use crate::reference::{self, ID, WIDTH, X};

/// Expected response of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// The reference function of the rows `first_id..first_id + rows`, under the request id `r<first_id>`.
    Reference {
        /// First row.
        first_id: i64,
        /// Rows.
        rows: usize,
    },
    /// A successful status; the body is not checked.
    Success,
}

/// Request that is ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// Protocol that it is sent by.
    pub protocol: Protocol,
    /// Head and body.
    pub request: Request<Full<Bytes>>,
    /// Expected response.
    pub expected: Expected,
}

/// Source of the requests of a run.
#[derive(Debug)]
pub(super) struct Requests {
    payload: Payload,
    random: StdRng,
    next_id: i64,
    /// Value of `Host`. This and the next fields are the same for every request.
    authority: HeaderValue,
    rest_path: Uri,
    grpc_uri: Uri,
    body_headers: HeaderMap,
}

/// A model name, path or header value that is not valid in a request.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` cannot stand in a request: {reason}")]
pub struct BadPath {
    /// Path or header.
    pub text: String,
    /// Why not.
    pub reason: String,
}

impl Requests {
    /// Creates the source of requests of a run.
    ///
    /// # Errors
    /// The model's name, the path or the content type is not valid in a request.
    pub(super) fn new(plan: &Plan) -> Result<Self, BadPath> {
        let bad = |text: &str, reason: String| BadPath { text: text.to_owned(), reason };
        let (path, content_type, json_bytes, next_id) = match &plan.payload {
            Payload::Reference { model, first_id, .. } => {
                (format!("/v2/models/{model}/infer"), "application/json", None, *first_id)
            }
            Payload::Body { path, content_type, json_bytes, .. } => {
                (path.clone(), content_type.as_str(), *json_bytes, 1)
            }
        };
        if !path.starts_with('/') {
            return Err(bad(&path, "a path begins with /".into()));
        }
        let rest_path: Uri = path.parse().map_err(|error| bad(&path, format!("{error}")))?;
        let authority = plan.address.to_string();
        let grpc = format!("http://{authority}{}", grpc::path::MODEL_INFER);
        let grpc_uri = grpc.parse().map_err(|error| bad(&grpc, format!("{error}")))?;
        let authority =
            HeaderValue::from_str(&authority).map_err(|error| bad(&authority, error.to_string()))?;
        let mut body_headers = HeaderMap::new();
        let value =
            HeaderValue::from_str(content_type).map_err(|error| bad(content_type, error.to_string()))?;
        body_headers.insert(header::CONTENT_TYPE, value);
        if let Some(json_bytes) = json_bytes {
            body_headers.insert(HEADER_LENGTH, json_bytes.into());
        }
        let random = StdRng::seed_from_u64(plan.seed ^ 0x006d_6978);
        let payload = plan.payload.clone();
        Ok(Self { payload, random, next_id, authority, rest_path, grpc_uri, body_headers })
    }

    /// Builds the next request.
    pub(super) fn prepare(&mut self) -> Prepared {
        let (mix, rows, verify, model) = match &self.payload {
            Payload::Body { body, .. } => {
                let request = self.post(body.clone(), self.body_headers.clone());
                return Prepared { protocol: Protocol::Body, request, expected: Expected::Success };
            }
            Payload::Reference { mix, rows, verify, model, .. } => (mix, *rows, *verify, model),
        };
        let protocol = mix.pick(self.random.random());
        let first_id = self.next_id;
        let request = match protocol {
            Protocol::RestJson | Protocol::Body => self.post(json(first_id, rows), self.body_headers.clone()),
            Protocol::RestBinary => {
                let (body, json_bytes) = binary(first_id, rows);
                let mut headers = HeaderMap::new();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                headers.insert(HEADER_LENGTH, json_bytes.into());
                self.post(body, headers)
            }
            Protocol::Grpc => self.call(grpc_message(model, first_id, rows)),
        };
        self.next_id += rows as i64;
        let expected = if verify { Expected::Reference { first_id, rows } } else { Expected::Success };
        Prepared { protocol, request, expected }
    }

    fn post(&self, body: Bytes, headers: HeaderMap) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.rest_path.clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::HOST, self.authority.clone());
        request
    }

    fn call(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.grpc_uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        request
    }
}

fn json(first_id: i64, rows: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(200 + rows * 130);
    let head = format!(
        "{{\"id\":\"r{first_id}\",\"inputs\":[{{\"name\":\"{ID}\",\"shape\":[{rows},1],\"datatype\":\"INT64\",\"data\":["
    );
    body.put_slice(head.as_bytes());
    let mut separator = "";
    for id in first_id..first_id + rows as i64 {
        body.put_slice(format!("{separator}{id}").as_bytes());
        separator = ",";
    }
    let middle =
        format!("]}},{{\"name\":\"{X}\",\"shape\":[{rows},{WIDTH}],\"datatype\":\"FP32\",\"data\":[");
    body.put_slice(middle.as_bytes());
    separator = "";
    for x in (first_id..first_id + rows as i64).flat_map(reference::row) {
        body.put_slice(format!("{separator}{x}").as_bytes());
        separator = ",";
    }
    body.put_slice(b"]}]}");
    body.freeze()
}

fn binary(first_id: i64, rows: usize) -> (Bytes, usize) {
    let head = format!(
        "{{\"id\":\"r{first_id}\",\"parameters\":{{\"binary_data_output\":true}},\"inputs\":[\
         {{\"name\":\"{ID}\",\"shape\":[{rows},1],\"datatype\":\"INT64\",\"parameters\":{{\"binary_data_size\":{}}}}},\
         {{\"name\":\"{X}\",\"shape\":[{rows},{WIDTH}],\"datatype\":\"FP32\",\"parameters\":{{\"binary_data_size\":{}}}}}]}}",
        rows * 8,
        rows * WIDTH * 4
    );
    let mut body = BytesMut::with_capacity(head.len() + rows * (8 + WIDTH * 4));
    body.put_slice(head.as_bytes());
    let ids = first_id..first_id + rows as i64;
    ids.clone().for_each(|id| body.put_i64_le(id));
    ids.flat_map(reference::row).for_each(|x| body.put_f32_le(x));
    (body.freeze(), head.len())
}

fn grpc_message(model: &str, first_id: i64, rows: usize) -> Bytes {
    let tensor = |name: &str, datatype: &str, width: usize| InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![rows as i64, width as i64],
        ..Default::default()
    };
    let ids = first_id..first_id + rows as i64;
    let message = ModelInferRequest {
        model_name: model.to_owned(),
        id: format!("r{first_id}"),
        inputs: vec![tensor(ID, "INT64", 1), tensor(X, "FP32", WIDTH)],
        raw_input_contents: vec![
            ids.clone().flat_map(i64::to_le_bytes).collect(),
            ids.flat_map(reference::row).flat_map(f32::to_le_bytes).collect(),
        ],
        ..Default::default()
    };
    let bytes = message.encoded_len();
    let mut framed = BytesMut::with_capacity(grpc::PREFIX_BYTES + bytes);
    framed.put_u8(0);
    framed.put_u32(bytes as u32);
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}
