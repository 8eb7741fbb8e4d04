//! What the batcher adds to its admin port: `/drain`, `/upstreams`, and gauges that are set before each scrape.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use metrics::gauge;
use serde::Serialize;
use sluice_config::metric_names::batcher as names;
use sluice_config::process::admin::{AdminResponse, AdminRoutes, json, plain};

use crate::front::Front;
use crate::upstream::Upstream;
use crate::upstream::epoch::Phase;

/// The batcher's admin paths.
#[derive(Debug)]
pub struct Routes(pub Arc<Front>);

#[derive(Serialize)]
struct UpstreamList {
    upstreams: Vec<UpstreamView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UpstreamView {
    name: String,
    address: String,
    state: &'static str,
    inflight_batches: usize,
    epoch: u64,
}

impl From<&Arc<Upstream>> for UpstreamView {
    fn from(upstream: &Arc<Upstream>) -> Self {
        Self {
            name: upstream.name().to_owned(),
            address: upstream.address().to_owned(),
            state: upstream.phase().name(),
            inflight_batches: upstream.inflight(),
            epoch: upstream.epoch().map_or(0, |epoch| epoch.number),
        }
    }
}

#[async_trait]
impl AdminRoutes for Routes {
    async fn before_scrape(&self) {
        for handle in self.0.registry.all().iter() {
            handle.refresh().await;
        }
        let upstreams = self.0.upstreams.all();
        for phase in Phase::ALL {
            let count = upstreams.iter().filter(|upstream| upstream.phase() == phase).count();
            gauge!(names::UPSTREAMS, "state" => phase.name()).set(count as f64);
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Option<AdminResponse> {
        match request.uri().path() {
            "/upstreams" if request.method() == Method::GET => {
                let upstreams = self.0.upstreams.all().iter().map(UpstreamView::from).collect();
                Some(json(StatusCode::OK, &UpstreamList { upstreams }))
            }
            "/drain" if [Method::GET, Method::POST].contains(request.method()) => {
                Some(self.drain(request.uri().query()).await)
            }
            "/drain" | "/upstreams" => Some(plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")),
            _ => None,
        }
    }
}

impl Routes {
    async fn drain(&self, query: Option<&str>) -> AdminResponse {
        let deadline_ms = match deadline_ms(query.unwrap_or_default()) {
            Ok(given) => given.unwrap_or(self.0.settings.drain_deadline_ms),
            Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        };
        tracing::info!(deadline_ms, active = self.0.drain.active(), "Draining.");
        let inflight = || self.0.upstreams.all().iter().map(|upstream| upstream.inflight()).sum();
        let drained = self.0.drain.drain(Duration::from_millis(deadline_ms), inflight).await;
        tracing::info!(drained.drained, drained.revoked, drained.active, "The drain has ended.");
        json(StatusCode::OK, &drained)
    }
}

/// `deadline_ms` of a query string.
fn deadline_ms(query: &str) -> Result<Option<u64>, String> {
    let mut deadline = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("deadline_ms", value)) => {
                let parsed = value
                    .parse()
                    .map_err(|_| format!("deadline_ms={value}: must be a whole number of milliseconds"))?;
                deadline = Some(parsed);
            }
            _ => return Err(format!("unknown parameter {pair:?}; there is deadline_ms")),
        }
    }
    Ok(deadline)
}

#[cfg(test)]
mod tests {
    use super::deadline_ms;

    #[test]
    fn a_drain_deadline_is_read_strictly() {
        assert_eq!(deadline_ms(""), Ok(None));
        assert_eq!(deadline_ms("deadline_ms=250"), Ok(Some(250)));
        assert!(deadline_ms("deadline_ms=soon").unwrap_err().contains("milliseconds"));
        assert!(deadline_ms("deadline=1").unwrap_err().contains("there is deadline_ms"));
    }
}
