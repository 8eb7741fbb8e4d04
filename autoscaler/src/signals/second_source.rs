//! Prometheus as the second source of batchers' metrics, for when they cannot be scraped.
//!
//! One instant query of a range selector reads everything at once: unlike an instant selector it gives
//! each sample's own time, and so tells what is old.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use prometheus_http_query::Client;
use sluice_config::metric_names::batcher;

use super::prometheus_text::Metric;

/// What is asked for: everything that a reading is made of.
const METRICS: [&str; 8] = [
    batcher::DEMAND_ROWS_TOTAL,
    batcher::QUEUE_ROWS,
    batcher::DEMAND_LATCHED,
    batcher::CURVE_ALPHA_SECONDS,
    batcher::CURVE_BETA_SECONDS,
    batcher::BATCH_ROWS_LIMIT,
    batcher::CURVE_SAMPLES,
    batcher::ATTAINMENT_RATIO,
];
/// Labels that Prometheus adds about the scraped process, not about the metric.
const POD: &str = "pod";
const TARGET: [&str; 3] = ["namespace", "job", "instance"];

/// What the second source knows of one pod's batcher.
#[derive(Debug, Clone, PartialEq)]
pub struct DatedPage {
    /// The pod.
    pub pod: String,
    /// When it was scraped, milliseconds since 1970.
    pub at_ms: u64,
    /// What its page said about the model then.
    pub metrics: Vec<Metric>,
}

/// Where batchers' metrics are known second-hand.
#[async_trait]
pub trait SecondSource: Send + Sync {
    /// The newest pages of these pods, as far as they are known and not older than `within`.
    ///
    /// # Errors
    /// In words, with the address.
    async fn pages(
        &self,
        namespace: &str,
        pods: &[String],
        model: &str,
        within: Duration,
    ) -> Result<Vec<DatedPage>, String>;
}

/// A Prometheus server, or anything that answers its query API.
#[derive(Clone)]
pub struct Prometheus {
    client: Client,
    url: String,
    timeout: Duration,
}

impl Prometheus {
    /// Asks the server at `url`, each time for at most `timeout`.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, String> {
        check_url(url)?;
        let client = Client::try_from(url).map_err(|error| format!("prometheusUrl {url}: {error}"))?;
        Ok(Self { client, url: url.to_owned(), timeout })
    }
}

/// Whether the URL can be used.
///
/// # Errors
/// Says what is expected.
pub fn check_url(url: &str) -> Result<(), String> {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    if host.is_some_and(|host| !host.is_empty()) {
        return Ok(());
    }
    Err(format!(
        "prometheusUrl is {url:?}, but must be such as http://prometheus.monitoring:9090 (without TLS)"
    ))
}

#[async_trait]
impl SecondSource for Prometheus {
    async fn pages(
        &self,
        namespace: &str,
        pods: &[String],
        model: &str,
        within: Duration,
    ) -> Result<Vec<DatedPage>, String> {
        let asked = self.client.query(query(namespace, pods, model, within)).post();
        let answer = match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(format!("Prometheus at {}: {error}", self.url)),
            Err(_) => {
                let ms = self.timeout.as_millis();
                return Err(format!("Prometheus at {}: no answer within {ms} ms", self.url));
            }
        };
        let Some(series) = answer.data().as_matrix() else {
            return Err(format!("Prometheus at {}: the answer is not a matrix", self.url));
        };
        let newest = series.iter().filter_map(|series| {
            let last = series.samples().last()?;
            Some((series.metric(), last.timestamp(), last.value()))
        });
        Ok(pages(newest))
    }
}

/// PromQL for everything of these pods and this model.
fn query(namespace: &str, pods: &[String], model: &str, within: Duration) -> String {
    // Names of pods are of [a-z0-9.-]: only the dot means something in a regular expression.
    let pods: Vec<String> = pods.iter().map(|pod| pod.replace('.', "[.]")).collect();
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        "{{__name__=~\"{}|{}_bucket\",namespace=\"{}\",pod=~\"{}\",model=\"{}\"}}[{}ms]",
        METRICS.join("|"),
        batcher::REQUEST_DURATION_SECONDS,
        quoted(namespace),
        quoted(&pods.join("|")),
        quoted(model),
        within.as_millis()
    )
}

/// Pages from the newest sample of each series. Samples of a pod belong to its page when they are of its
/// newest scrape; where two jobs scrape the same pod, the one that came last counts, not the sum of both.
fn pages<'a>(newest: impl Iterator<Item = (&'a HashMap<String, String>, f64, f64)>) -> Vec<DatedPage> {
    let mut scrapes: BTreeMap<(String, u64, [String; 3]), Vec<Metric>> = BTreeMap::new();
    for (labels, seconds, value) in newest {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating is meant")]
        let at_ms = (seconds * 1000.0).round() as u64;
        let about_metric = |name: &str| name != "__name__" && name != POD && !TARGET.contains(&name);
        let metric = Metric {
            name: label("__name__"),
            labels: labels
                .iter()
                .filter(|(name, _)| about_metric(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            value,
        };
        scrapes.entry((label(POD), at_ms, TARGET.map(label))).or_default().push(metric);
    }
    // In the map's order a pod's newest scrape is its last.
    let mut pages: Vec<DatedPage> = Vec::new();
    for ((pod, at_ms, _), metrics) in scrapes {
        let page = DatedPage { pod, at_ms, metrics };
        match pages.last_mut().filter(|last| last.pod == page.pod) {
            Some(last) => *last = page,
            None => pages.push(page),
        }
    }
    pages
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
            // Of an older scrape: not on the newest page any more.
            (series("a", "one", batcher::ATTAINMENT_RATIO), 8.0, 0.5),
            (series("b", "one", demand), 11.0, 7.0),
            // Another job scrapes the same pod.
            (series("b", "two", demand), 11.5, 7.0),
        ];
        let pages = pages(all.iter().map(|(labels, at, value)| (labels, *at, *value)));
        let told: Vec<_> = pages.iter().map(|p| (p.pod.as_str(), p.at_ms, p.metrics.len())).collect();
        assert_eq!(told, [("a", 10_000, 2), ("b", 11_500, 1)]);
        let reading = super::super::Reading::of(&pages[0].metrics, "bert");
        assert_eq!((reading.demand_rows, reading.queue_rows), (Some(5.0), Some(2.0)));
    }

    #[test]
    fn only_a_plain_url_is_taken() {
        assert!(check_url("http://prometheus:9090").is_ok());
        for wrong in ["https://prometheus", "prometheus:9090", "http://", ""] {
            assert!(check_url(wrong).unwrap_err().contains("prometheusUrl"), "{wrong}");
        }
    }
}
