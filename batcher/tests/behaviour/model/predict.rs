//! The same model in V1: instances are ids, predictions twice as much; `:explain` and the like say what they got.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{Body, Call, Shared, flat, reply};

impl Shared {
    pub(super) async fn predict(&self, epoch: usize, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        if !path.ends_with(":predict") {
            return reply(200, &json!({"path": path, "bytes": body.len()}).to_string());
        }
        let Some((ids, field)) = read(&body) else {
            return reply(400, r#"{"error":"no instances, says the model server"}"#);
        };
        self.work(Call {
            epoch,
            ids: ids.clone(),
            form: "v1",
            too: false,
            traceparent: None,
            authorization: None,
            headers: Default::default(),
        })
        .await;
        if self.behaviour.poison.is_some_and(|poison| ids.contains(&poison)) {
            return reply(400, r#"{"error":"poisoned, says the model server"}"#);
        }
        let twice: Vec<i64> = ids.iter().map(|id| id * 2).collect();
        let twice = if self.behaviour.one_row_only { &twice[..1] } else { &twice };
        match field {
            "instances" => reply(200, &json!({"predictions": twice}).to_string()),
            _ => reply(200, &json!({"outputs": {"twice": twice}}).to_string()),
        }
    }
}

fn read(body: &Bytes) -> Option<(Vec<i64>, &'static str)> {
    let request: Value = serde_json::from_slice(body).ok()?;
    match (request.get("instances"), request.get("inputs")) {
        (Some(instances), None) => Some((flat(instances), "instances")),
        (None, Some(inputs)) => Some((flat(inputs.get("id")?), "inputs")),
        _ => None,
    }
}
