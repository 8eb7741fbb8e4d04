//! Additions to the admin port of the model server: its accuracy as metrics, and `POST /control`, which changes
//! the service curve at run time.

use anyhow::anyhow;
use async_trait::async_trait;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use metrics::{Counter, Gauge, counter, gauge};
use sluice_process::admin::{AdminResponse, AdminRoutes, json, plain};

use super::curve::Curve;
use super::slot::ExecutionSlot;
use crate::clock::NS_PER_S;

/// Paths and metrics of the model server.
pub(super) struct ModelAdmin {
    slot: ExecutionSlot,
    calls: Counter,
    rows: Counter,
    asked_us: Counter,
    achieved_us: Counter,
    late_p50: Gauge,
    late_p99: Gauge,
    late_max: Gauge,
    waiting: Gauge,
}

impl ModelAdmin {
    pub(super) fn new(slot: ExecutionSlot) -> Self {
        Self {
            slot,
            calls: counter!("sluice_model_calls_total"),
            rows: counter!("sluice_model_rows_total"),
            asked_us: counter!("sluice_model_asked_service_microseconds_total"),
            achieved_us: counter!("sluice_model_achieved_service_microseconds_total"),
            late_p50: gauge!("sluice_model_service_late_seconds", "quantile" => "0.5"),
            late_p99: gauge!("sluice_model_service_late_seconds", "quantile" => "0.99"),
            late_max: gauge!("sluice_model_service_late_seconds", "quantile" => "1"),
            waiting: gauge!("sluice_model_waiting_calls"),
        }
    }
}

#[async_trait]
impl AdminRoutes for ModelAdmin {
    async fn before_scrape(&self) {
        let accuracy = self.slot.accuracy();
        self.calls.absolute(accuracy.late_ns.len());
        self.rows.absolute(accuracy.rows);
        self.asked_us.absolute(accuracy.asked_total.as_micros() as u64);
        self.achieved_us.absolute(accuracy.achieved_total.as_micros() as u64);
        let late = |quantile| accuracy.late_ns.value_at_quantile(quantile) as f64 / NS_PER_S;
        self.late_p50.set(late(0.5));
        self.late_p99.set(late(0.99));
        self.late_max.set(late(1.0));
        self.waiting.set(self.slot.waiting() as f64);
    }

    async fn handle(&self, request: Request<Incoming>) -> Option<AdminResponse> {
        if request.uri().path() != "/control" {
            return None;
        }
        if request.method() != Method::POST {
            return Some(plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "use POST with {\"alphaMs\": 2.0, \"betaMs\": 0.1}\n",
            ));
        }
        Some(match set_curve(&self.slot, request).await {
            Ok(curve) => json(StatusCode::OK, &curve),
            Err(message) => plain(StatusCode::BAD_REQUEST, format!("{message}\n")),
        })
    }
}

async fn set_curve(slot: &ExecutionSlot, request: Request<Incoming>) -> anyhow::Result<Curve> {
    let body = Limited::new(request.into_body(), 4096).collect().await;
    let body = body.map_err(|error| anyhow!("body: {error}"))?.to_bytes();
    let curve: Curve = serde_json::from_slice(&body).map_err(|error| anyhow!("body: {error}"))?;
    let curve = curve.check()?;
    slot.set_curve(curve)?;
    tracing::info!(alpha_ms = curve.alpha_ms, beta_ms = curve.beta_ms, "The service curve was changed.");
    Ok(curve)
}
