//! One replica's view of the Lease, and its decision what to do next (pure: the caller passes the time).

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// Next step of a replica.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The Lease does not exist: create it, with this replica as its holder.
    Create(Lease),
    /// Renew it or take it over; guarded by the resourceVersion that was read.
    Replace(Lease),
    /// Another replica holds it.
    Wait,
}

/// One replica's view of the Lease.
#[derive(Debug)]
pub(super) struct Candidate {
    name: String,
    identity: String,
    duration: Duration,
    /// resourceVersion that was seen last, and when it was seen first.
    seen: Option<(String, Instant)>,
    /// Time at which the record of another holder expires if it does not change.
    free_at: Option<Instant>,
    /// Time until which this replica may act; `None` where it does not lead.
    leads_until: Option<Instant>,
}

impl Candidate {
    pub(super) fn new(name: &str, identity: &str, duration: Duration) -> Self {
        Self {
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(duration.as_secs().max(1)),
            seen: None,
            free_at: None,
            leads_until: None,
        }
    }

    pub(super) fn lease_name(&self) -> &str {
        &self.name
    }

    pub(super) fn leads(&self, now: Instant) -> bool {
        self.leads_until.is_some_and(|until| now < until)
    }

    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }

    /// Decides the next step, given the Lease as it is now. `wall` is only written, never compared.
    pub(super) fn decide(&mut self, lease: Option<&Lease>, now: Instant, wall: Timestamp) -> Step {
        let Some(lease) = lease else {
            self.seen = None;
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            return Step::Create(Lease { metadata, spec: Some(self.record(None, wall)) });
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.seen = Some((version, now));
                now
            }
        };
        let record = lease.spec.clone().unwrap_or_default();
        let holder = record.holder_identity.as_deref().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity {
            self.leads_until = None;
            let free_at = since + self.duration_of(&record);
            if now < free_at {
                self.free_at = Some(free_at);
                return Step::Wait;
            }
        }
        self.free_at = None;
        let spec = Some(self.record(Some(&record), wall));
        Step::Replace(Lease { metadata: lease.metadata.clone(), spec })
    }

    /// Notes that this replica's record was stored by a request that was sent at `sent`.
    pub(super) fn wrote(&mut self, lease: &Lease, sent: Instant) {
        self.seen = Some((lease.metadata.resource_version.clone().unwrap_or_default(), sent));
        self.leads_until = Some(sent + self.duration * 2 / 3);
    }

    /// Notes that another replica wrote meanwhile. A holder goes on until it reads which, or until its time is over.
    pub(super) fn lost(&mut self) {
        self.free_at = None;
    }

    /// Returns the time until the next read of the Lease, at most `every`.
    pub(super) fn pause(&self, now: Instant, every: Duration) -> Duration {
        let next = [self.free_at, self.leads_until].into_iter().flatten().filter(|at| *at > now).min();
        next.map_or(every, |at| every.min(at - now))
    }

    /// Returns the Lease without a holder, to be written; `None` where this replica does not hold it.
    pub(super) fn released(&self, lease: Lease, wall: Timestamp) -> Option<Lease> {
        let record = lease.spec?;
        if record.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return None;
        }
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            ..record
        };
        Some(Lease { metadata: lease.metadata, spec: Some(spec) })
    }

    /// Returns the duration that a holder's record promises; this replica's own where it has none.
    fn duration_of(&self, record: &LeaseSpec) -> Duration {
        let promised = record.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        promised.map_or(self.duration, |seconds| Duration::from_secs(seconds.max(1)))
    }

    /// Returns a record with this replica as the holder, after the record `before`.
    fn record(&self, before: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let renews = before.is_some_and(|before| before.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: match before {
                Some(before) if renews => before.acquire_time.clone(),
                _ => Some(MicroTime(wall)),
            },
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(if renews || before.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before.cloned().unwrap_or_default()
        }
    }
}
