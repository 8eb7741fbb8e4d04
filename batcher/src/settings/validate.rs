//! What makes settings valid, beyond their types.

mod batches;
mod order;

use super::own_headers::header_name;
use super::{Role, Settings, WhileCold, check_members};
use crate::address::{check_address, unix_path};
use crate::after_drain::Hook;

const HOUR_MS: u64 = 3_600_000;
/// A buffer of the HTTP library has at least so many bytes, and a head of up to so many is read.
const MIN_HEADER_BYTES: usize = 8 << 10;
/// What is kept of a request takes about 1 KiB.
const MAX_EXPLAINED: usize = 100_000;
/// A tensor takes a few hundred bytes while its request is here, whatever it holds.
const MAX_TENSORS: usize = 16_384;
/// Beyond any head that a client of a model server has reason to send.
const MAX_HEADER_BYTES: usize = 16 << 20;

/// A setting that is not valid: which, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidSetting {
    /// Its name.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Settings {
    /// In how many ways the model servers of a gateway are named.
    fn membership_kinds(&self) -> usize {
        [!self.upstreams.is_empty(), self.members.is_some(), self.members_dns.is_some()]
            .into_iter()
            .filter(|&named| named)
            .count()
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first setting that is not valid.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let invalid = |field, problem: &str| Err(InvalidSetting { field, problem: problem.to_owned() });
        match self.role {
            Role::Sidecar if self.upstream.is_none() && self.upstream_grpc.is_none() => {
                return invalid(
                    "upstream",
                    "a sidecar needs the model server's address, such as 127.0.0.1:9000",
                );
            }
            Role::Sidecar if self.membership_kinds() > 0 => {
                return invalid(
                    "role",
                    "upstreams, members and membersDns are for role gateway; a sidecar has one upstream",
                );
            }
            Role::Gateway if self.upstream.is_some() || self.upstream_grpc.is_some() => {
                return invalid("upstream", "is for role sidecar; a gateway has upstreams or members");
            }
            Role::Gateway if self.membership_kinds() != 1 => {
                return invalid(
                    "members",
                    "a gateway needs one of a members file, membersDns and a list of upstreams",
                );
            }
            _ => {}
        }
        if self.role == Role::Gateway && self.while_cold == WhileCold::Reject {
            return invalid(
                "whileCold",
                "reject is for role sidecar; a gateway holds requests, or nothing could start from zero",
            );
        }
        if let Some(name) = &self.members_dns {
            let problem = match unix_path(name) {
                Some(_) => Err(format!("{name:?} is no name:port")),
                None => check_address(name),
            };
            problem.or_else(|problem| invalid("membersDns", &problem))?;
        }
        check_members(&self.members_of_role()).or_else(|problem| invalid("upstreams", &problem))?;
        let at_least_one = [
            ("membersPollMs", self.members_poll_ms),
            ("queueRequests", self.queue_requests as u64),
            ("queueBytes", self.queue_bytes as u64),
            ("answerBytes", self.answer_bytes as u64),
            ("maxBodyBytes", self.max_body_bytes as u64),
            ("maxConnections", self.max_connections as u64),
            ("headerTimeoutMs", self.header_timeout_ms),
            ("bodyTimeoutMs", self.body_timeout_ms),
            ("answerTimeoutMs", self.answer_timeout_ms),
            ("idleTimeoutMs", self.idle_timeout_ms),
            ("upstreamTimeoutMs", self.upstream_timeout_ms),
            ("warmupMaxCalls", u64::from(self.warmup_max_calls)),
            ("probeMs", self.probe_ms),
            ("afterDrainTimeoutMs", self.after_drain_timeout_ms),
            ("maxModels", self.max_models as u64),
            ("maxTensors", self.max_tensors as u64),
            ("maxParameters", self.max_parameters as u64),
            ("maxSequences", self.max_sequences as u64),
            ("sequenceIdleMs", self.sequence_idle_ms),
        ];
        for (field, value) in at_least_one {
            if value == 0 {
                return invalid(field, "must be at least 1");
            }
        }
        self.validate_batches()?;
        self.validate_order()?;
        for (field, share) in
            [("accessLogSample", self.access_log_sample), ("traceSampleRatio", self.trace_sample_ratio)]
        {
            if !(0.0..=1.0).contains(&share) {
                return invalid(field, &format!("{share} is not between 0 and 1"));
            }
        }
        if self.explain_requests > MAX_EXPLAINED {
            return invalid(
                "explainRequests",
                &format!("{} is more than {MAX_EXPLAINED}", self.explain_requests),
            );
        }
        if let Some(endpoint) = &self.otlp_endpoint
            && !endpoint.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        {
            return invalid("otlpEndpoint", &format!("{endpoint:?} is not host:port"));
        }
        if !(MIN_HEADER_BYTES..=MAX_HEADER_BYTES).contains(&self.max_header_bytes) {
            return invalid(
                "maxHeaderBytes",
                &format!(
                    "{} is not between {MIN_HEADER_BYTES} and {MAX_HEADER_BYTES}",
                    self.max_header_bytes
                ),
            );
        }
        if let Some(url) = &self.after_drain {
            Hook::new(url, &self.after_drain_headers)
                .map_err(|problem| InvalidSetting { field: "afterDrain", problem })?;
        } else if !self.after_drain_headers.is_empty() {
            return invalid("afterDrainHeaders", "are of the call that afterDrain names, and it is not set");
        }
        if self.drain_delay_ms > HOUR_MS {
            return invalid(
                "drainDelayMs",
                &format!("{} is more than an hour ({HOUR_MS})", self.drain_delay_ms),
            );
        }
        let letters = |token: &String| {
            !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        };
        if !self.drain_token.iter().all(letters) {
            return invalid(
                "drainToken",
                "must be letters, digits and -._~, so that it stands in a query as it is",
            );
        }
        let streams = [self.min_streams, self.initial_streams, self.max_streams];
        if streams[0] == 0 || !streams.is_sorted() {
            let problem = format!(
                "minStreams {}, initialStreams {} and maxStreams {} must be at least 1 and in this order",
                streams[0], streams[1], streams[2]
            );
            return invalid("initialStreams", &problem);
        }
        if let Some(problem) = self.shared_headers.iter().find_map(|name| header_name(name).err()) {
            return invalid("sharedHeaders", &problem);
        }
        for (field, value) in [("maxTensors", self.max_tensors), ("maxParameters", self.max_parameters)] {
            if value > MAX_TENSORS {
                return invalid(field, &format!("{value} is more than {MAX_TENSORS}"));
            }
        }
        if let Some(path) = self.pass_paths.iter().find(|path| !path.starts_with('/') || path.contains('%')) {
            return invalid("passPaths", &format!("{path:?} must begin with /, and stand without escapes"));
        }
        if self.models.len() > self.max_models {
            return invalid("models", "names more models than maxModels allows");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar() -> Settings {
        Settings { upstream: Some("127.0.0.1:9000".into()), ..Settings::default() }
    }

    #[test]
    fn defaults_need_nothing_but_an_upstream() {
        sidecar().validate().unwrap();
        assert_eq!(Settings::default().validate().unwrap_err().field, "upstream");
    }

    #[test]
    fn headers_that_the_batcher_sets_cannot_be_those_of_clients() {
        let shared = |name: &str| Settings { shared_headers: vec![name.to_owned()], ..sidecar() };
        shared("x-team").validate().unwrap();
        let error = shared("Content-Type").validate().unwrap_err().to_string();
        assert_eq!(error, r#"sharedHeaders: "Content-Type" is set by the batcher itself"#);
        assert_eq!(shared("a b").validate().unwrap_err().field, "sharedHeaders");
    }

    #[test]
    fn a_gateway_has_either_a_file_or_a_list() {
        let gateway = Settings { role: Role::Gateway, ..Settings::default() };
        assert_eq!(gateway.validate().unwrap_err().field, "members");
        Settings { members: Some("members.json".into()), ..gateway.clone() }.validate().unwrap();
        let by_name = Settings { members_dns: Some("bert.ns.svc:9000".into()), ..gateway.clone() };
        by_name.validate().unwrap();
        let both = Settings { members: Some("members.json".into()), ..by_name };
        assert_eq!(both.validate().unwrap_err().field, "members");
        for wrong in ["bert.ns.svc", "unix:/run/m.sock"] {
            let error =
                Settings { members_dns: Some(wrong.into()), ..gateway.clone() }.validate().unwrap_err();
            assert_eq!(error.field, "membersDns", "{error}");
        }
    }

    #[test]
    fn errors_name_the_field_and_what_is_allowed() {
        let error = Settings { allowed_batch_rows: vec![1, 128], ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "allowedBatchRows: 128 is not between 1 and maxBatchRows (64)");
        let error = Settings { trace_sample_ratio: 1.5, ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "traceSampleRatio: 1.5 is not between 0 and 1");
        let error = Settings { otlp_endpoint: Some("http://x".into()), ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "otlpEndpoint: \"http://x\" is not host:port");
        let error = Settings { max_header_bytes: 100, ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "maxHeaderBytes: 100 is not between 8192 and 16777216");
        let error = Settings { probe_ms: 0, ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "probeMs: must be at least 1");
        let error = Settings { max_tensors: 1 << 20, ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "maxTensors: 1048576 is more than 16384");
        let error = Settings { pass_paths: vec!["docs".into()], ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "passPaths: \"docs\" must begin with /, and stand without escapes");
        let error = Settings { drain_token: Some("a b".into()), ..sidecar() }.validate().unwrap_err();
        assert_eq!(error.field, "drainToken");
        let error = Settings { upstream: Some("nowhere".into()), ..sidecar() }.validate().unwrap_err();
        assert!(error.to_string().contains("\"nowhere\" is not host:port"), "{error}");
    }
}
