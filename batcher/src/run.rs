//! Wires the parts of the program and runs it. Listeners and stop signal are parameters, so that `main` and the tests
//! start it in the same way.

use std::sync::Arc;
use std::time::Duration;

use sluice_process::Readiness;
use sluice_process::admin::{self, Admin};
use sluice_process::metrics::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Routes;
use crate::answers::budget::AnswerBudget;
use crate::answers::relief;
use crate::answers::untaken::Answers;
use crate::clock::Clock;
use crate::drain::{Drain, Mode};
use crate::front::{Bodies, Front, Models, server};
use crate::observe::Observe;
use crate::queue::Message;
use crate::queue::tenants::Tenants;
use crate::registry::Registry;
use crate::settings::{Live, Role};
use crate::streams::Streams;
use crate::upstream::Upstream;
use crate::upstream::members::{self, Upstreams};

/// Time for writing the last error responses after the drain deadline.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The listeners of a batcher.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub front: TcpListener,
    /// For probes, scrapes and `/drain`.
    pub admin: TcpListener,
}

/// Runs until `stop` is cancelled and then all requests are answered, or the drain deadline has passed.
pub async fn run(live: Live, listeners: Listeners, metrics: Metrics, stop: CancellationToken) {
    let settings = live.now();
    let clock = Clock::start();
    let registry = Arc::new(Registry::new(live.clone(), clock, metrics.clone()));
    let answers = Answers::new(AnswerBudget::new(settings.limits.answer_bytes), clock);
    let upstreams = Arc::new(Upstreams::new(answers.budget.clone()));
    let front = Arc::new(Front {
        clock,
        registry: Arc::clone(&registry),
        upstreams: Arc::clone(&upstreams),
        models: Models::new(Arc::clone(&registry), Arc::clone(&upstreams), live.clone(), clock),
        drain: Arc::new(Drain::default()),
        bodies: Bodies::new(live.clone()),
        answers: Arc::clone(&answers),
        tenants: Tenants::default(),
        connections: TaskTracker::new(),
        observe: Observe::new(live.clone(), clock),
        streams: Streams::new(Arc::clone(&registry), Arc::clone(&upstreams), live.clone(), clock),
        settings: live.clone(),
    });
    let readiness = Readiness::default();
    let end = CancellationToken::new();
    tokio::spawn(relief::run(answers, live.clone(), end.clone()));
    tokio::spawn(members::run(upstreams, registry, live.clone(), end.clone()));
    tokio::spawn(keep_readiness(Arc::clone(&front), readiness.clone(), end.clone()));
    tokio::spawn(follow_settings(Arc::clone(&front), end.clone()));
    let routes = Arc::new(Routes(Arc::clone(&front)));
    tokio::spawn(admin::serve(listeners.admin, Admin { metrics, readiness, routes }, end.clone()));

    let close = CancellationToken::new();
    let mut serving = tokio::spawn(server::serve(listeners.front, Arc::clone(&front), close.clone()));
    stop.cancelled().await;
    let not_ready_since = front.drain.stop();
    // Keep accepting for a while: some clients have not heard yet that this process is not ready.
    tokio::time::sleep_until(not_ready_since + Duration::from_millis(live.now().drain.propagation_ms)).await;
    close.cancel();
    let deadline = Duration::from_millis(live.now().drain.drain_deadline_ms);
    if tokio::time::timeout(deadline, &mut serving).await.is_err() {
        tracing::error!(
            active = front.drain.active(),
            drain_deadline_ms = live.now().drain.drain_deadline_ms,
            "The drain deadline has passed; requests that still wait get an error."
        );
        front.registry.all().iter().for_each(|handle| handle.tell(Message::Retire));
        front.streams.retire();
        let _ = tokio::time::timeout(LAST_ANSWERS, serving).await;
    }
    end.cancel();
}

/// Keeps `/readyz` up to date, and revokes a drain when a new epoch is warm.
async fn keep_readiness(front: Arc<Front>, readiness: Readiness, end: CancellationToken) {
    let mut upstreams = front.upstreams.subscribe();
    let mut mode = front.drain.subscribe();
    let mut epochs_at_drain = None;
    loop {
        let draining = front.drain.mode();
        let warm: Vec<(String, u64)> = front
            .upstreams
            .all()
            .iter()
            .filter_map(|upstream| Some((upstream.name().to_owned(), upstream.open_epoch()?.number)))
            .collect();
        match draining {
            Mode::Serving => epochs_at_drain = None,
            Mode::Stopping => {}
            Mode::Draining => {
                let before = epochs_at_drain.get_or_insert_with(|| warm.clone());
                if warm.iter().any(|epoch| !before.contains(epoch)) {
                    tracing::info!("A new epoch is warm; the drain is revoked.");
                    front.drain.revoke();
                    continue;
                }
            }
        }
        match draining {
            Mode::Stopping => readiness.set_not_ready("stopping"),
            Mode::Draining => readiness.set_not_ready("draining"),
            // A gateway is ready even without model servers: it holds requests until one is warm.
            Mode::Serving if front.settings.now().servers.role == Role::Gateway || !warm.is_empty() => {
                readiness.set_ready()
            }
            Mode::Serving => readiness.set_not_ready(not_ready_because(&front.upstreams.all())),
        }
        tokio::select! {
            _ = upstreams.changed() => {}
            _ = mode.changed() => {}
            () = end.cancelled() => return,
        }
    }
}

/// Returns a message that says why no model server is warm.
fn not_ready_because(upstreams: &[Arc<Upstream>]) -> String {
    let mut text = "no model server is warm".to_owned();
    for upstream in upstreams {
        let discovered = upstream.discovered();
        let trouble = discovered.trouble.as_deref().unwrap_or("nothing is known to be wrong");
        let (name, address, state) = (upstream.name(), upstream.address(), upstream.phase().name());
        text.push_str(&format!("; {name} ({address}) is {state}: {trouble}"));
    }
    text
}

/// Applies changed settings to the parts that keep values derived from settings.
async fn follow_settings(front: Arc<Front>, end: CancellationToken) {
    let mut changed = front.settings.subscribe();
    loop {
        tokio::select! {
            _ = changed.changed() => {}
            () = end.cancelled() => return,
        }
        let settings = front.settings.now();
        front.bodies.memory.set_limit(settings.limits.queue_bytes);
        front.answers.budget.set_limit(settings.limits.answer_bytes);
        front.registry.add_named();
        front.registry.all().iter().for_each(|handle| handle.tell(Message::SettingsChanged));
    }
}
