//! Lifts gates: watches pods and the inventory, asks [`gates`](crate::gates), and writes what it answers.
//!
//! ```text
//!  watches ──▶ mirrors ──see──▶ lifter ── gates::decide (pure) ──▶ patcher ──JSON patch──▶ API server
//!                 └──changed──▶   │  ▲                                          │
//!                                 ▼  └──────────── answers ─────────────────────┘
//!                               tracker: what was lifted and is not seen yet, refusals, since when
//! ```
//!
//! Nothing is polled: a round follows a change of what is watched, an answer, or the next deadline. The tracker holds
//! nothing that objects do not tell sooner or later; a process that starts with an empty one decides the same.
//!
//! Needs `list` and `watch` on pods and on what `sluice-inventory-watch` reads, `patch` on pods, `create` and
//! `patch` on events; the watchdog reads pods and `get`s one Lease instead of the inventory.

mod api;
mod events;
mod lifter;
mod metrics;
mod mirrors;
mod staleness;
#[cfg(test)]
mod tests;
mod tracker;

use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use metrics::BUCKETS;

use api::ApiPatcher;
use lifter::{Lifter, Rule};
use mirrors::{Mirrors, PodMirror};

/// The Lease that the lifting replica holds.
pub const LEASE: &str = "sluice-preloader";

/// How long after a deadline the watchdog lifts a gate that nobody else did.
pub const WATCHDOG_GRACE: Duration = Duration::from_secs(10);

/// What is set about lifting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiftSettings {
    /// Age at which a gate is lifted whatever is free; a pod's annotation goes first.
    pub gate_deadline: Duration,
    /// Who this process is, for events.
    pub identity: String,
    /// Namespace of the [`LEASE`].
    pub namespace: String,
}

/// Lifts gates while `is_leader` says true, until `stop`.
pub async fn run(
    client: Client,
    settings: LiftSettings,
    is_leader: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mirrors = Mirrors::start(client.clone(), &stop);
    let patcher = ApiPatcher::start(client, "sluice-preloader", &settings.identity, is_leader.clone());
    let lifter = Lifter::new(settings.gate_deadline, Rule::Capacity, mirrors, patcher);
    tokio::select! {
        () = lifter.run(is_leader) => {}
        () = stop.cancelled() => {}
    }
}

/// Lifts gates that are [`WATCHDOG_GRACE`] past their deadline while nobody renews the [`LEASE`], until `stop`.
pub async fn watchdog(client: Client, settings: LiftSettings, stop: CancellationToken) {
    let pods = PodMirror::start(client.clone(), &stop);
    let (is_stale, watching) = staleness::watch(client.clone(), &settings.namespace, LEASE);
    let name = "sluice-preloader-watchdog";
    let patcher = ApiPatcher::start(client, name, &settings.identity, is_stale.clone());
    let lifter = Lifter::new(settings.gate_deadline, Rule::Age { grace: WATCHDOG_GRACE }, pods, patcher);
    tokio::select! {
        () = lifter.run(is_stale) => {}
        () = watching => {}
        () = stop.cancelled() => {}
    }
}
