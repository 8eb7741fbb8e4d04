//! One running controller per InferenceAutoscaler, following the objects as they come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_config::api::InferenceAutoscaler;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::controller::{Context, Controller, Timing};
use crate::decisions::DecisionLogs;
use crate::platform::Target;

/// All controllers.
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
    /// None yet. Their decisions are written to `logs`.
    pub(crate) fn new(context: Arc<Context>, timing: Timing, logs: DecisionLogs) -> Self {
        Self { context, timing, logs, running: BTreeMap::new() }
    }

    /// Removes the decision logs of all other objects than these.
    pub(crate) fn keep_logs<'a>(&self, of: impl Iterator<Item = &'a Target>) {
        self.logs.keep(of);
    }

    /// Starts, informs and stops controllers until these objects have one each.
    pub(crate) async fn follow(&mut self, objects: BTreeMap<Target, Arc<InferenceAutoscaler>>) {
        let gone: Vec<Target> =
            self.running.keys().filter(|name| !objects.contains_key(name)).cloned().collect();
        for name in gone {
            tracing::info!(%name, "The InferenceAutoscaler is gone; its target keeps its replicas.");
            if let Some(running) = self.running.remove(&name) {
                running.end().await;
            }
            if let Err(error) = self.context.status.remove(&name.namespace, &name.name).await {
                tracing::warn!(%name, %error, "The status of a removed object could not be removed.");
            }
        }
        for (name, object) in objects {
            match self.running.get(&name) {
                Some(running) => {
                    running.object.send_if_modified(|known| {
                        // One that was made anew under the same name is another object.
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
        tracing::info!(%name, "An InferenceAutoscaler is controlled.");
        self.running.insert(name, Running { object, stop, task });
    }

    /// Stops all where they stand and waits until they are gone: nothing is written any more, not even a
    /// farewell. For whoever may not write any longer.
    pub(crate) async fn abort(&mut self) {
        for running in self.running.values() {
            running.task.abort();
        }
        while let Some((_, running)) = self.running.pop_first() {
            let _ = running.task.await;
        }
    }

    /// Stops all; a decision that is being applied is applied.
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
            tracing::error!(%error, "A controller's task broke.");
        }
    }
}
