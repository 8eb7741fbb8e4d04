//! What is recorded of requests, and who may read it.

use std::path::PathBuf;

use super::table::{Bounds, Setting, settings_group};
use super::{AccessLogSetting, InvalidSetting};

/// What is kept of a request takes about 1 KiB.
const MAX_EXPLAINED: f64 = 100_000.0;

settings_group! {
    /// Records of requests
    pub struct ObserveSettings {
        /// Which requests the access log has.
        ///
        /// `off`, `errors` (those that did not end well) or `all`: one line of JSON for each request.
        access_log: AccessLogSetting = AccessLogSetting::Off, Setting::new("accessLog");
        /// File of the access log.
        access_log_file: Option<PathBuf> = None,
            Setting::new("accessLogFile").file_only().absent("standard output");
        /// Share of the requests that ended well in the access log, 0 to 1.
        access_log_sample: f64 = 1.0,
            Setting::new("accessLogSample").file_only().bounds(Bounds::Between(0.0, 1.0));
        /// Number of requests that /explain keeps: the last ones; 0: none.
        ///
        /// About 1 KiB each, never over 4 KiB; at most 100000. Responses then carry `x-request-id`.
        explain_requests: usize = 0, Setting::new("explainRequests").bounds(Bounds::AtMost(MAX_EXPLAINED));
        /// File with the token for /explain; without it only the loopback interface may ask.
        ///
        /// Sent as `Authorization: Bearer …`; the file is read at each question.
        admin_token_file: Option<PathBuf> = None, Setting::new("adminTokenFile").value_name("FILE");
        /// Collector that receives spans (OTLP over HTTP, JSON).
        otlp_endpoint: Option<String> = None, Setting::new("otlpEndpoint").value_name("HOST:PORT");
        /// Share of the requests without a trace of their own that begin one, 0 to 1.
        ///
        /// A request brings its trace in `traceparent`.
        trace_sample_ratio: f64 = 0.0,
            Setting::new("traceSampleRatio").value_name("0..1").bounds(Bounds::Between(0.0, 1.0));
    }
}

impl ObserveSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if let Some(endpoint) = &self.otlp_endpoint
            && !endpoint.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        {
            let problem = format!("{endpoint:?} is not host:port");
            return Err(InvalidSetting { field: "otlpEndpoint", problem });
        }
        Ok(())
    }
}
