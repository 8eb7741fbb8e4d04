//! Keeps one running controller per InferenceAutoscaler while the objects come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_config::api::InferenceAutoscaler;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::controller::{Context, Controller, Timing};
use crate::decisions::DecisionLogs;
use crate::platform::Target;

/// Set of running controllers.
pub(crate) struct Controllers {
    context: Arc<Context>,
    timing: Timing,
    logs: DecisionLogs,
    running: BTreeMap<Target, Running>,
}

struct Running {
    object: watch::Sender<Arc<InferenceAutoscaler>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Controllers {
    /// Creates an empty set, whose controllers write their decisions to `logs`.
    pub(crate) fn new(context: Arc<Context>, timing: Timing, logs: DecisionLogs) -> Self {
        Self { context, timing, logs, running: BTreeMap::new() }
    }

    /// Removes the decision logs of all objects but these.
    pub(crate) fn keep_logs<'a>(&self, of: impl Iterator<Item = &'a Target>) {
        self.logs.keep(of);
    }

    /// Starts, updates and stops controllers so that each of these objects has one.
    pub(crate) async fn follow(&mut self, objects: BTreeMap<Target, Arc<InferenceAutoscaler>>) {
        let gone: Vec<Target> =
            self.running.keys().filter(|name| !objects.contains_key(name)).cloned().collect();
        for name in gone {
            tracing::info!(%name, "The InferenceAutoscaler is gone; its target keeps its replicas.");
            if let Some(running) = self.running.remove(&name) {
                running.end().await;
            }
            if let Err(error) = self.context.status.remove(&name.namespace, &name.name).await {
                tracing::warn!(%name, %error, "Failed to remove the status of a removed InferenceAutoscaler.");
            }
        }
        for (name, object) in objects {
            match self.running.get(&name) {
                Some(running) => {
                    running.object.send_if_modified(|known| {
                        // An object that was deleted and created again is another one.
                        let changed = known.spec != object.spec || known.metadata.uid != object.metadata.uid;
                        if changed {
                            *known = object;
                        }
                        changed
                    });
                }
                None => self.start(name, object).await,
            }
        }
    }

    async fn start(&mut self, name: Target, object: Arc<InferenceAutoscaler>) {
        let log = self.logs.log(&name);
        let (object, changes) = watch::channel(object);
        let controller = Controller::new(changes, Arc::clone(&self.context), self.timing.clone(), log).await;
        let stop = CancellationToken::new();
        let task = tokio::spawn(controller.run(stop.clone()));
        tracing::info!(%name, "Started to control an InferenceAutoscaler.");
        self.running.insert(name, Running { object, stop, task });
    }

    /// Aborts all controllers and waits until they are gone, so that nothing is written any more, not even a last status.
    /// For a process that has lost the leadership.
    pub(crate) async fn abort(&mut self) {
        for running in self.running.values() {
            running.task.abort();
        }
        while let Some((_, running)) = self.running.pop_first() {
            let _ = running.task.await;
        }
    }

    /// Stops all controllers; a decision that is being applied is finished.
    pub(crate) async fn end(&mut self) {
        while let Some((_, running)) = self.running.pop_first() {
            running.end().await;
        }
    }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "A controller's task panicked.");
        }
    }
}
