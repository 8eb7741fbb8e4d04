//! Lifts gates: watches pods and the inventory, decides by [`gates`](crate::gates), and patches pods.
//!
//! ```text
//!  watches ──▶ mirrors ──see──▶ lifter ── gates::decide (pure) ──▶ patcher ──JSON patch──▶ API server
//!                 └──changed──▶   │  ▲                                          │
//!                                 ▼  └──────────── answers ─────────────────────┘
//!                               tracker: what was lifted and is not seen yet, refusals, since when
//! ```
//!
//! Nothing is polled: a round follows a change of what is watched, an answer, or the next deadline. The tracker holds
//! only what the objects will show sooner or later, so a process that starts with an empty one decides the same.
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

pub(crate) use metrics::BUCKETS;

use api::ApiPatcher;
use lifter::{Lifter, Rule};
use mirrors::{Mirrors, PodMirror};

/// The Lease that the lifting replica holds.
pub(crate) const LEASE: &str = "sluice-preloader";

/// Delay after a deadline before the watchdog lifts a gate that the preloader did not.
pub(crate) const WATCHDOG_GRACE: Duration = Duration::from_secs(10);

/// Settings of lifting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiftSettings {
    /// Age at which a gate is lifted even if no slice is free; a pod's annotation overrides it.
    pub gate_deadline: Duration,
    /// Name of this process in Events.
    pub identity: String,
    /// Namespace of the [`LEASE`].
    pub namespace: String,
}

/// Lifts gates while `is_leader` is true, until `stop` is cancelled.
pub(crate) async fn run(
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

/// Lifts gates that are [`WATCHDOG_GRACE`] past their deadline while no process renews the [`LEASE`], until `stop` is
/// cancelled.
pub(crate) async fn watchdog(client: Client, settings: LiftSettings, stop: CancellationToken) {
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
