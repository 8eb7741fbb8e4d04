//! The batcher's own paths on the admin port: `/drain`, `/upstreams`, `/explain`, and the kubelet's probes of the model
//! server. Also sets gauges before each scrape.

mod access;
mod explain;
mod query;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use metrics::gauge;
use serde::Serialize;
use sluice_config::metric_names::batcher as names;
use sluice_process::admin::{AdminResponse, AdminRoutes, json, plain};
use subtle::ConstantTimeEq;

use query::{DrainQuery, path};

use crate::after_drain::Hook;
use crate::drain::Drained;
use crate::front::Front;
use crate::settings::Settings;
use crate::upstream::Upstream;
use crate::upstream::discovery::Profile;
use crate::upstream::epoch::Phase;
use crate::upstream::probe::{LIVE_PATH, Probed, probe};

/// Number of probes in a row that a model server must leave unanswered before a drain stops waiting for it.
const UNANSWERED: u32 = 3;
/// Pause between two probes of the model server during a drain.
const QUESTION_PAUSE: Duration = Duration::from_secs(1);

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
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    models: Vec<ModelView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelView {
    name: String,
    form: &'static str,
    max_batch_rows: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    preferred_batch_rows: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    decoupled: bool,
}

impl From<&(Arc<str>, Arc<Profile>)> for ModelView {
    fn from((name, profile): &(Arc<str>, Arc<Profile>)) -> Self {
        Self {
            name: name.to_string(),
            form: profile.form_name(),
            max_batch_rows: profile.max_rows,
            preferred_batch_rows: profile.preferred_rows.clone(),
            instances: profile.slots_hint,
            decoupled: profile.decoupled,
        }
    }
}

impl From<&Arc<Upstream>> for UpstreamView {
    fn from(upstream: &Arc<Upstream>) -> Self {
        let discovered = upstream.discovered();
        Self {
            name: upstream.name().to_owned(),
            address: upstream.address().to_owned(),
            state: upstream.phase().name(),
            inflight_batches: upstream.inflight(),
            epoch: upstream.epoch().map_or(0, |epoch| epoch.number),
            trouble: discovered.trouble.clone(),
            models: discovered.models.iter().map(ModelView::from).collect(),
        }
    }
}

#[async_trait]
impl AdminRoutes for Routes {
    async fn before_scrape(&self) {
        for handle in self.0.registry.all().iter() {
            handle.refresh().await;
        }
        gauge!(names::REQUEST_BYTES).set(self.0.bodies.memory.used() as f64);
        gauge!(names::UNCONFIRMED_WAITING).set(self.0.models.inquiries.waiting() as f64);
        gauge!(names::ANSWER_BYTES).set(self.0.answers.budget.used() as f64);
        gauge!(names::CONNECTIONS).set(self.0.connections.len() as f64);
        // After the queues: both set the gauge of latched demand, and the streams leave it alone where a queue has set
        // it.
        self.0.streams.refresh().await;
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
            "/explain" if request.method() == Method::GET => {
                let settings = self.0.settings.now();
                let (peer, file) = (request.extensions().get(), settings.observe.admin_token_file.as_deref());
                match access::check(peer, request.headers(), file).await {
                    Ok(()) => Some(self.explain(request.uri().query())),
                    Err(refusal) => Some(refusal),
                }
            }
            "/drain" if [Method::GET, Method::POST].contains(request.method()) => {
                Some(self.drain(request.uri().query()).await)
            }
            "/upstream-livez" if request.method() == Method::GET => {
                Some(self.ask_upstream(request.uri().query().unwrap_or_default(), Probed::is_live).await)
            }
            "/upstream-startedz" if request.method() == Method::GET => {
                Some(self.ask_upstream(request.uri().query().unwrap_or_default(), Probed::is_started).await)
            }
            "/drain" | "/explain" | "/upstreams" | "/upstream-livez" | "/upstream-startedz" => {
                Some(plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"))
            }
            _ => None,
        }
    }
}

/// Calls the hook that `afterDrain` names, if any. The model server is stopped next in any case, so a failure is only
/// logged.
async fn call_after_drain(settings: &Settings) {
    let Some(url) = &settings.drain.after_drain else { return };
    let called = match Hook::new(url, &settings.drain.after_drain_headers) {
        Ok(hook) => hook.call(Duration::from_millis(settings.drain.after_drain_timeout_ms)).await,
        Err(problem) => Err(problem),
    };
    match called {
        Ok(status) if status.is_success() => {
            tracing::info!(url, %status, "Called the hook after the drain.")
        }
        Ok(status) => tracing::warn!(url, %status, "The hook after the drain did not return success."),
        Err(error) => tracing::warn!(url, error, "Failed to call the hook after the drain."),
    }
}

impl Routes {
    async fn drain(&self, query: Option<&str>) -> AdminResponse {
        let asked = match DrainQuery::parse(query.unwrap_or_default()) {
            Ok(asked) => asked,
            Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        };
        let settings = self.0.settings.now();
        if !is_allowed(settings.drain.drain_token.as_deref(), asked.token) {
            return plain(StatusCode::FORBIDDEN, "a drain needs ?token= with the value of drainToken\n");
        }
        if settings.drain.drain_delay_ms > 0 {
            tracing::info!(
                drain_delay_ms = settings.drain.drain_delay_ms,
                "Waiting before the drain begins."
            );
            tokio::time::sleep(Duration::from_millis(settings.drain.drain_delay_ms)).await;
        }
        let deadline_ms = asked.deadline_ms.unwrap_or(settings.drain.drain_deadline_ms);
        tracing::info!(deadline_ms, active = self.0.drain.active(), "Draining.");
        let inflight = || self.0.upstreams.all().iter().map(|upstream| upstream.inflight()).sum();
        let silence = Duration::from_millis(settings.drain.propagation_ms);
        let drained = tokio::select! {
            drained = self.0.drain.drain(Duration::from_millis(deadline_ms), silence, inflight) => drained,
            () = self.until_nobody_answers() => {
                tracing::warn!("The model server does not answer probes; the drain no longer waits for it.");
                let active = self.0.drain.active().max(inflight());
                Drained { drained: active == 0, revoked: false, active }
            }
        };
        tracing::info!(drained.drained, drained.revoked, drained.active, "The drain has ended.");
        if !drained.revoked {
            call_after_drain(&settings).await;
        }
        json(StatusCode::OK, &drained)
    }

    /// Waits until the model server of a sidecar has left `UNANSWERED` probes in a row unanswered. It will not answer
    /// its requests in flight either before it is killed; they are then sent to its successor. A gateway waits for
    /// ever.
    async fn until_nobody_answers(&self) {
        let upstreams = self.0.upstreams.all();
        let [upstream] = upstreams.as_slice() else { return std::future::pending().await };
        let mut unanswered = 0;
        while unanswered < UNANSWERED {
            tokio::time::sleep(QUESTION_PAUSE).await;
            let settings = self.0.settings.now();
            match probe_upstream(upstream, &settings, Some(LIVE_PATH)).await {
                Probed::Answered(_) => unanswered = 0,
                Probed::NobodyListens(_) | Probed::Silent(_) => unanswered += 1,
            }
        }
    }

    /// Answers a probe of the kubelet by probing the model server of a sidecar.
    async fn ask_upstream(&self, query: &str, judge: fn(&Probed) -> Result<(), String>) -> AdminResponse {
        let path = match path(query) {
            Ok(path) => path,
            Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        };
        let upstreams = self.0.upstreams.all();
        let [upstream] = upstreams.as_slice() else {
            return plain(StatusCode::NOT_FOUND, "only a sidecar answers for its model server\n");
        };
        match judge(&probe_upstream(upstream, &self.0.settings.now(), path.as_deref()).await) {
            Ok(()) => plain(StatusCode::OK, "ok\n"),
            Err(problem) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
        }
    }
}

async fn probe_upstream(upstream: &Upstream, settings: &Settings, path: Option<&str>) -> Probed {
    probe(upstream.probe_address(), upstream.wire(), settings.servers.upstream_headers.map(), path).await
}

/// Returns whether the given token allows a drain; without a configured token, everybody may drain. The comparison
/// takes constant time.
fn is_allowed(wanted: Option<&str>, given: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| bool::from(wanted.as_bytes().ct_eq(given.unwrap_or_default().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn a_drain_needs_the_token_where_there_is_one() {
        assert!(is_allowed(None, None) && is_allowed(None, Some("anything")));
        assert!(is_allowed(Some("abc"), Some("abc")));
        assert!(!is_allowed(Some("abc"), None) && !is_allowed(Some("abc"), Some("abd")));
        assert!(!is_allowed(Some("abc"), Some("ab")) && !is_allowed(Some("abc"), Some("abcd")));
    }
}
