//! Reads the batchers' metrics from Prometheus, for batchers that cannot be scraped.
//!
//! One instant query of a range selector reads everything at once. Unlike an instant selector it returns the time of
//! each sample, so that old ones are recognised.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus_http_query::Client;
use prometheus_http_query::response::Data;
use serde::Deserialize;
use sluice_config::metric_names::batcher;
use sluice_scaling_policy::signals::DatedReading;
use tokio::sync::Semaphore;

use super::collector::{Collector, SUMMED};

/// Maximum bytes of a response. The series of one pod take about ten kilobytes.
const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// Maximum concurrent queries; together with the size limit this bounds their memory.
const MAX_QUERIES: usize = 16;
/// Maximum responses that are parsed at once. This happens beside the threads that keep the Lease and decide.
const READERS: usize = 1;

/// Label with the pod that was scraped.
const POD: &str = "pod";
/// Labels that Prometheus adds about the scrape, not about the metric.
const TARGET: [&str; 3] = ["namespace", "job", "instance"];

/// Newest readings, by pod.
pub(crate) type PodReadings = BTreeMap<String, DatedReading>;

/// Reason why Prometheus gave no readings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrometheusError {
    /// The URL of the settings cannot be used.
    #[error("prometheusUrl is {0:?}, but must be such as http://prometheus.monitoring:9090 (without TLS)")]
    Url(String),
    /// The client library refuses the URL.
    #[error("prometheusUrl {url}: {error}")]
    Client { url: String, error: prometheus_http_query::Error },
    /// No whole response came in time.
    #[error("Prometheus at {url}: no answer within {timeout_ms} ms")]
    Timeout { url: String, timeout_ms: u128 },
    /// The query failed, or its response cannot be used.
    #[error("Prometheus at {url}: {error}")]
    Query { url: String, error: QueryError },
}

/// Reason why a query gave no readings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("the program ends")]
    Ending,
    #[error(transparent)]
    Request(#[from] prometheus_http_query::Error),
    #[error("{0}")]
    Broken(String),
    #[error(
        "the answer has more than {MAX_RESPONSE_BYTES} bytes (the cap); are there more series of the model than its \
         batchers have?"
    )]
    TooLarge,
    #[error("the answer is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// Prometheus reports an error.
    #[error("{0}")]
    Reported(String),
    #[error("the answer is not a matrix")]
    NoMatrix,
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

/// Source of batchers' metrics beside their own pages.
#[async_trait]
pub(crate) trait SecondSource: Send + Sync {
    /// Returns the newest readings of these pods that are not older than `within`. Pods without one are left out.
    async fn readings(
        &self,
        namespace: &str,
        pods: &[String],
        model: &str,
        within: Duration,
    ) -> Result<PodReadings, PrometheusError>;
}

/// Client of a Prometheus server, or of anything that serves its query API.
#[derive(Clone)]
pub(crate) struct Prometheus {
    client: Client,
    url: String,
    timeout: Duration,
    queries: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

/// Envelope of a query's response.
#[derive(Deserialize)]
struct QueryResponse {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

impl Prometheus {
    /// Creates a client of the server at `url`, whose queries take at most `timeout` each.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, PrometheusError> {
        check_url(url)?;
        let client =
            Client::try_from(url).map_err(|error| PrometheusError::Client { url: url.to_owned(), error })?;
        let [queries, readers] = [MAX_QUERIES, READERS].map(|most| Arc::new(Semaphore::new(most)));
        Ok(Self { client, url: url.to_owned(), timeout, queries, readers })
    }

    /// Sends a query and reads its response.
    async fn query(&self, query: String, model: &str) -> Result<PodReadings, QueryError> {
        let _query = self.queries.acquire().await.map_err(|_| QueryError::Ending)?;
        let mut response = self.client.query(query).post_raw().await?;
        let mut bytes = Vec::new();
        while let Some(piece) =
            response.chunk().await.map_err(|error| QueryError::Broken(error.to_string()))?
        {
            if bytes.len() + piece.len() > MAX_RESPONSE_BYTES {
                return Err(QueryError::TooLarge);
            }
            bytes.extend_from_slice(&piece);
        }
        let reader = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| QueryError::Ending)?;
        let model = model.to_owned();
        let work = tokio::task::spawn_blocking(move || {
            let _reader = reader;
            read(&bytes, &model)
        });
        work.await?
    }
}

/// Checks that the URL can be used: `http://` and a host.
pub(crate) fn check_url(url: &str) -> Result<(), PrometheusError> {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    if host.is_some_and(|host| !host.is_empty()) {
        return Ok(());
    }
    Err(PrometheusError::Url(url.to_owned()))
}

#[async_trait]
impl SecondSource for Prometheus {
    async fn readings(
        &self,
        namespace: &str,
        pods: &[String],
        model: &str,
        within: Duration,
    ) -> Result<PodReadings, PrometheusError> {
        let query = self.query(query(namespace, pods, model, within), model);
        let url = || self.url.clone();
        match tokio::time::timeout(self.timeout, query).await {
            Ok(Ok(readings)) => Ok(readings),
            Ok(Err(error)) => Err(PrometheusError::Query { url: url(), error }),
            Err(_) => Err(PrometheusError::Timeout { url: url(), timeout_ms: self.timeout.as_millis() }),
        }
    }
}

/// Parses the readings in a response's bytes.
fn read(response: &[u8], model: &str) -> Result<PodReadings, QueryError> {
    let response: QueryResponse = serde_json::from_slice(response)?;
    let series = match (response.data, response.error) {
        (Some(Data::Matrix(series)), _) => series,
        (_, Some(error)) => return Err(QueryError::Reported(error)),
        _ => return Err(QueryError::NoMatrix),
    };
    let newest = series.iter().filter_map(|series| {
        let last = series.samples().last()?;
        Some((series.metric(), last.timestamp(), last.value()))
    });
    Ok(readings(newest, model))
}

/// Returns the PromQL query for all metrics that a reading of these pods and this model uses.
fn query(namespace: &str, pods: &[String], model: &str, within: Duration) -> String {
    // Names of pods consist of [a-z0-9.-], of which only the dot is special in a regular expression.
    let pods: Vec<String> = pods.iter().map(|pod| pod.replace('.', "[.]")).collect();
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        "{{__name__=~\"{}|{}_bucket\",namespace=\"{}\",pod=~\"{}\",model=\"{}\"}}[{}ms]",
        SUMMED.join("|"),
        batcher::REQUEST_DURATION_SECONDS,
        quoted(namespace),
        quoted(&pods.join("|")),
        quoted(model),
        within.as_millis()
    )
}

/// Builds readings from the newest sample of each series.
///
/// Only samples of a pod's newest scrape belong to its reading. Where two jobs scrape the same pod, the later scrape
/// counts, not the sum of both.
fn readings<'a>(
    newest: impl Iterator<Item = (&'a HashMap<String, String>, f64, f64)>,
    model: &str,
) -> PodReadings {
    // `None` = the scrape was refused; other pods keep their readings.
    let mut scrapes: BTreeMap<(&str, u64, [&str; 3]), Option<Collector>> = BTreeMap::new();
    for (labels, seconds, value) in newest {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating is meant")]
        let at_ms = (seconds * 1000.0).round() as u64;
        let about_metric = |name: &str| name != "__name__" && name != POD && !TARGET.contains(&name);
        let about = labels.iter().filter(|(name, _)| about_metric(name));
        let about = about.map(|(name, value)| (name.as_str(), value.as_str()));
        let of = (label(POD), at_ms, TARGET.map(label));
        let scrape = scrapes.entry(of).or_insert_with(|| Some(Collector::new(model)));
        let taken = scrape.as_mut().map(|scrape| scrape.add(label("__name__"), about, value));
        if let Some(Err(error)) = taken {
            tracing::debug!(pod = label(POD), %error, "Refused the series that Prometheus has of a pod.");
            *scrape = None;
        }
    }
    // In the map's order a pod's newest scrape comes last, and replaces the earlier ones.
    let sound = scrapes.into_iter().filter_map(|((pod, at_ms, _), scrape)| Some((pod, at_ms, scrape?)));
    sound
        .map(|(pod, at_ms, scrape)| (pod.to_owned(), DatedReading { at_ms, reading: scrape.finish() }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(pod: &str, job: &str, name: &str) -> HashMap<String, String> {
        let labels = [("__name__", name), ("pod", pod), ("job", job), ("model", "bert"), ("namespace", "ns")];
        labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn the_query_names_pods_and_model_so_that_nothing_else_matches() {
        let query = query("ns", &["a.b-1".to_owned(), "c".to_owned()], "m\"x", Duration::from_secs(15));
        assert!(query.contains("pod=~\"a[.]b-1|c\""), "{query}");
        assert!(query.contains("model=\"m\\\"x\""), "{query}");
        assert!(query.ends_with("}[15000ms]"), "{query}");
    }

    #[test]
    fn a_page_is_what_one_scrape_of_a_pod_said() {
        let demand = batcher::DEMAND_ROWS_TOTAL;
        let all = [
            (series("a", "one", demand), 10.0, 5.0),
            (series("a", "one", batcher::QUEUE_ROWS), 10.0, 2.0),
            // A sample of an older scrape: no longer on the newest page.
            (series("a", "one", batcher::ATTAINMENT_RATIO), 8.0, 0.5),
            (series("b", "one", demand), 11.0, 7.0),
            // Another job scrapes the same pod.
            (series("b", "two", demand), 11.5, 7.0),
        ];
        let readings = readings(all.iter().map(|(labels, at, value)| (labels, *at, *value)), "bert");
        let times: Vec<_> = readings.iter().map(|(pod, one)| (pod.as_str(), one.at_ms)).collect();
        assert_eq!(times, [("a", 10_000), ("b", 11_500)]);
        let reading = &readings["a"].reading;
        assert_eq!(
            (reading.demand_rows, reading.queue_rows, reading.attainment),
            (Some(5.0), Some(2.0), None)
        );
    }

    #[test]
    fn a_pod_whose_series_make_no_sense_keeps_no_other_from_being_known() {
        let bucket = "sluice_batcher_request_duration_seconds_bucket";
        let all = [
            (series("a", "one", batcher::DEMAND_ROWS_TOTAL), 10.0, 5.0),
            // A bucket without its bound.
            (series("a", "one", bucket), 10.0, 2.0),
            (series("b", "one", batcher::DEMAND_ROWS_TOTAL), 10.0, 7.0),
        ];
        let readings = readings(all.iter().map(|(labels, at, value)| (labels, *at, *value)), "bert");
        assert_eq!(readings.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn an_answer_that_is_no_matrix_of_numbers_is_refused_and_poison_is_no_demand() {
        let answer = |values: &str| {
            let metric = r#"{"__name__": "sluice_batcher_demand_rows_total", "pod": "a", "model": "bert"}"#;
            let text = format!(
                r#"{{"status": "success", "data": {{"resultType": "matrix", "result": [
                    {{"metric": {metric}, "values": [{values}]}}]}}}}"#
            );
            read(text.as_bytes(), "bert")
        };
        assert_eq!(answer(r#"[1.5, "7"]"#).unwrap()["a"].reading.demand_rows, Some(7.0));
        for poison in ["NaN", "+Inf", "-3", "1e308"] {
            let readings = answer(&format!(r#"[1.5, "{poison}"]"#)).unwrap();
            assert!(readings["a"].reading.demand_rows.unwrap().is_nan(), "{poison}");
        }
        assert!(answer(r#"[1.5, "seven"]"#).unwrap_err().to_string().contains("not understood"));
        assert!(answer(r#"[1.5, 7]"#).unwrap_err().to_string().contains("not understood"));
        assert_eq!(answer("").unwrap(), PodReadings::new());
        let refused = |text: &str| read(text.as_bytes(), "bert").unwrap_err().to_string();
        assert_eq!(refused(r#"{"status": "error", "error": "too many samples"}"#), "too many samples");
        let vector = r#"{"data": {"resultType": "vector", "result": []}}"#;
        assert_eq!(refused(vector), "the answer is not a matrix");
        assert!(refused("<html>").contains("not understood"));
    }

    #[test]
    fn only_a_plain_url_is_taken() {
        assert!(check_url("http://prometheus:9090").is_ok());
        for wrong in ["https://prometheus", "prometheus:9090", "http://", ""] {
            assert!(check_url(wrong).unwrap_err().to_string().contains("prometheusUrl"), "{wrong}");
        }
    }
}
