//! Prometheus as the second source of batchers' metrics, for when they cannot be scraped.
//!
//! One instant query of a range selector reads everything at once: unlike an instant selector it gives
//! each sample's own time, and so tells what is old.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus_http_query::Client;
use prometheus_http_query::response::Data;
use serde::Deserialize;
use sluice_config::metric_names::batcher;
use tokio::sync::Semaphore;

use super::reading::{Collector, Reading, SUMMED};

/// Most bytes of an answer. What it knows of one pod takes some ten kilobytes.
const MOST_ANSWER_BYTES: usize = 8 << 20;
/// Answers that are waited for at once; so much memory they may take together.
const MOST_ASKED: usize = 16;
/// Answers that are read at once, beside the threads that keep the Lease and decide.
const READERS: usize = 1;

/// Labels that Prometheus adds about the scraped process, not about the metric.
const POD: &str = "pod";
const TARGET: [&str; 3] = ["namespace", "job", "instance"];

/// What the second source knows of one pod's batcher.
#[derive(Debug, Clone, PartialEq)]
pub struct DatedReading {
    /// The pod.
    pub pod: String,
    /// When it was scraped, milliseconds since 1970.
    pub at_ms: u64,
    /// What its page said about the model then.
    pub reading: Reading,
}

/// Where batchers' metrics are known second-hand.
#[async_trait]
pub trait SecondSource: Send + Sync {
    /// The newest readings of these pods, as far as they are known and not older than `within`.
    ///
    /// # Errors
    /// In words, with the address.
    async fn readings(
        &self,
        namespace: &str,
        pods: &[String],
        model: &str,
        within: Duration,
    ) -> Result<Vec<DatedReading>, String>;
}

/// A Prometheus server, or anything that answers its query API.
#[derive(Clone)]
pub struct Prometheus {
    client: Client,
    url: String,
    timeout: Duration,
    asked: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

/// The envelope of an answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

impl Prometheus {
    /// Asks the server at `url`, each time for at most `timeout`.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, String> {
        check_url(url)?;
        let client = Client::try_from(url).map_err(|error| format!("prometheusUrl {url}: {error}"))?;
        let [asked, readers] = [MOST_ASKED, READERS].map(|most| Arc::new(Semaphore::new(most)));
        Ok(Self { client, url: url.to_owned(), timeout, asked, readers })
    }

    /// The answer's bytes and what is made of them.
    async fn ask(&self, query: String, model: &str) -> Result<Vec<DatedReading>, String> {
        let ending = |_| "the program ends".to_owned();
        let _asked = self.asked.acquire().await.map_err(ending)?;
        let asked = self.client.query(query).post_raw().await;
        let mut answer = asked.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| error.to_string())? {
            if bytes.len() + piece.len() > MOST_ANSWER_BYTES {
                return Err(format!(
                    "the answer has more than {MOST_ANSWER_BYTES} bytes (the cap); are there more series of the \
                     model than its batchers have?"
                ));
            }
            bytes.extend_from_slice(&piece);
        }
        let reader =
            Arc::clone(&self.readers).acquire_owned().await.map_err(|_| "the program ends".to_owned())?;
        let model = model.to_owned();
        let work = tokio::task::spawn_blocking(move || {
            let _reader = reader;
            read(&bytes, &model)
        });
        work.await.map_err(|error| error.to_string())?
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
    async fn readings(
        &self,
        namespace: &str,
        pods: &[String],
        model: &str,
        within: Duration,
    ) -> Result<Vec<DatedReading>, String> {
        let asked = self.ask(query(namespace, pods, model, within), model);
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(readings)) => Ok(readings),
            Ok(Err(error)) => Err(format!("Prometheus at {}: {error}", self.url)),
            Err(_) => {
                let ms = self.timeout.as_millis();
                Err(format!("Prometheus at {}: no answer within {ms} ms", self.url))
            }
        }
    }
}

/// Readings from the bytes of an answer.
fn read(answer: &[u8], model: &str) -> Result<Vec<DatedReading>, String> {
    let answer: Answer =
        serde_json::from_slice(answer).map_err(|error| format!("the answer is not understood: {error}"))?;
    let series = match (answer.data, answer.error) {
        (Some(Data::Matrix(series)), _) => series,
        (_, Some(error)) => return Err(error),
        _ => return Err("the answer is not a matrix".to_owned()),
    };
    let newest = series.iter().filter_map(|series| {
        let last = series.samples().last()?;
        Some((series.metric(), last.timestamp(), last.value()))
    });
    Ok(readings(newest, model))
}

/// PromQL for everything of these pods and this model.
fn query(namespace: &str, pods: &[String], model: &str, within: Duration) -> String {
    // Names of pods are of [a-z0-9.-]: only the dot means something in a regular expression.
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

/// Readings from the newest sample of each series. Samples of a pod belong to its page when they are of its
/// newest scrape; where two jobs scrape the same pod, the one that came last counts, not the sum of both.
fn readings<'a>(
    newest: impl Iterator<Item = (&'a HashMap<String, String>, f64, f64)>,
    model: &str,
) -> Vec<DatedReading> {
    // `None` = it was refused; what is known of other pods stays.
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
            tracing::debug!(pod = label(POD), %error, "What the second source knows of a pod is refused.");
            *scrape = None;
        }
    }
    // In the map's order a pod's newest scrape is its last.
    let mut readings: Vec<DatedReading> = Vec::new();
    for ((pod, at_ms, _), scrape) in scrapes {
        let Some(scrape) = scrape else { continue };
        let reading = DatedReading { pod: pod.to_owned(), at_ms, reading: scrape.finish() };
        match readings.last_mut().filter(|last| last.pod == reading.pod) {
            Some(last) => *last = reading,
            None => readings.push(reading),
        }
    }
    readings
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
        let readings = readings(all.iter().map(|(labels, at, value)| (labels, *at, *value)), "bert");
        let told: Vec<_> = readings.iter().map(|one| (one.pod.as_str(), one.at_ms)).collect();
        assert_eq!(told, [("a", 10_000), ("b", 11_500)]);
        let reading = &readings[0].reading;
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
        assert_eq!(readings.iter().map(|one| one.pod.as_str()).collect::<Vec<_>>(), ["b"]);
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
        assert_eq!(answer(r#"[1.5, "7"]"#).unwrap()[0].reading.demand_rows, Some(7.0));
        for poison in ["NaN", "+Inf", "-3", "1e308"] {
            let readings = answer(&format!(r#"[1.5, "{poison}"]"#)).unwrap();
            assert!(readings[0].reading.demand_rows.unwrap().is_nan(), "{poison}");
        }
        assert!(answer(r#"[1.5, "seven"]"#).unwrap_err().contains("not understood"));
        assert!(answer(r#"[1.5, 7]"#).unwrap_err().contains("not understood"));
        assert_eq!(answer("").unwrap(), []);
        let refused = |text: &str| read(text.as_bytes(), "bert").unwrap_err();
        assert_eq!(refused(r#"{"status": "error", "error": "too many samples"}"#), "too many samples");
        let vector = r#"{"data": {"resultType": "vector", "result": []}}"#;
        assert_eq!(refused(vector), "the answer is not a matrix");
        assert!(refused("<html>").contains("not understood"));
    }

    #[test]
    fn only_a_plain_url_is_taken() {
        assert!(check_url("http://prometheus:9090").is_ok());
        for wrong in ["https://prometheus", "prometheus:9090", "http://", ""] {
            assert!(check_url(wrong).unwrap_err().contains("prometheusUrl"), "{wrong}");
        }
    }
}
