//! The process's metrics, in Prometheus' text format.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Histograms hold every observation until this runs; often enough that memory stays small.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Renders what the process has measured.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Installs the process-wide recorder. `buckets` gives each histogram's upper bounds; without them it
/// would be a summary, which cannot be added up over replicas.
///
/// Must be called inside a tokio runtime, once.
///
/// # Errors
/// When a recorder is installed already, or a histogram has no bounds.
pub fn install(buckets: &[(&str, &[f64])]) -> Result<Metrics, String> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in buckets {
        builder = builder
            .set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)
            .map_err(|error| format!("buckets of {name}: {error}"))?;
    }
    let handle = builder.install_recorder().map_err(|error| error.to_string())?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(Metrics(handle))
}

impl Metrics {
    /// All metrics in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }
}
