//! How the batcher, and the model server with it, is stopped.

use super::InvalidSetting;
use super::table::{Bounds, Setting, settings_group};
use crate::after_drain::Hook;

const HOUR_MS: u64 = 3_600_000;

settings_group! {
    /// Drain
    pub struct DrainSettings {
        /// Time that others may still send requests here once it is not ready.
        ///
        /// A drain waits for a silence of this length, and after SIGTERM connections are accepted for this time. In a pod: 2000.
        propagation_ms: u64 = 0, Setting::new("propagationMs");
        /// Maximum time of a drain, and after SIGTERM of the requests that are here.
        drain_deadline_ms: u64 = 25_000, Setting::new("drainDeadlineMs");
        /// Time that /drain waits before it begins.
        ///
        /// Replaces a `sleep` that the model container had as its hook; requests go on as before.
        drain_delay_ms: u64 = 0, Setting::new("drainDelayMs");
        /// URL that is called by GET when a drain has ended, before the model server is stopped.
        ///
        /// For a model server that must be told that it stops. A failure is logged, and the drain has ended all the same.
        after_drain: Option<String> = None, Setting::new("afterDrain").value_name("http://HOST:PORT/PATH");
        /// Header of the call to `afterDrain`; may be repeated.
        ///
        /// Each `name: value`.
        after_drain_headers: Vec<String> = Vec::new(), Setting::new("afterDrainHeaders")
            .repeated_flag("after-drain-header")
            .value_name("NAME: VALUE");
        /// Maximum time of the call to `afterDrain`.
        after_drain_timeout_ms: u64 = 30_000, Setting::new("afterDrainTimeoutMs").bounds(Bounds::AtLeastOne);
        /// Token that /drain?token= must carry; better set by the environment, where no list of processes shows it.
        ///
        /// Set it where others can reach the admin port. Without it, every client of that port may drain.
        drain_token: Option<String> = None, Setting::new("drainToken").value_name("TOKEN").secret();
    }
}

impl DrainSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let invalid = |field, problem: String| Err(InvalidSetting { field, problem });
        if let Some(url) = &self.after_drain {
            Hook::new(url, &self.after_drain_headers)
                .map_err(|problem| InvalidSetting { field: "afterDrain", problem })?;
        } else if !self.after_drain_headers.is_empty() {
            let problem = "are of the call that afterDrain names, and it is not set".to_owned();
            return invalid("afterDrainHeaders", problem);
        }
        if self.drain_delay_ms > HOUR_MS {
            let problem = format!("{} is more than an hour ({HOUR_MS})", self.drain_delay_ms);
            return invalid("drainDelayMs", problem);
        }
        let letters = |token: &String| {
            !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        };
        if !self.drain_token.iter().all(letters) {
            let problem =
                "must be letters, digits and -._~, so that it stands in a query as it is".to_owned();
            return invalid("drainToken", problem);
        }
        Ok(())
    }
}
