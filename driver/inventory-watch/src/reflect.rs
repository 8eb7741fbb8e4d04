//! Mirror of one kind of object, by a watch that never gives up. The inventory consists of these; a program that
//! needs another kind (such as pods) mirrors it in the same way.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::StreamExt;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, ExponentialBackoff};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Minimum and maximum pause between two tries of a failed watch. They are short, because free slices must be known
/// soon after the API server is back, and each program has only four watches.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Mirror of all objects of a kind.
pub struct Reflected<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    listed: watch::Receiver<bool>,
}

impl<K> Reflected<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Default + Send + Sync,
{
    /// Starts to watch a kind that its Rust type determines.
    pub fn start(
        api: Api<K>,
        trim: fn(&mut K),
        changed: &Arc<watch::Sender<u64>>,
        stop: &CancellationToken,
    ) -> Self {
        Self::start_with(api, K::DynamicType::default(), trim, changed, stop)
    }
}

impl<K> Reflected<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    /// Starts to watch until `stop`. `trim` drops the parts of an object that are never read; `changed` counts
    /// events.
    pub fn start_with(
        api: Api<K>,
        kind: K::DynamicType,
        trim: fn(&mut K),
        changed: &Arc<watch::Sender<u64>>,
        stop: &CancellationToken,
    ) -> Self {
        let plural = K::plural(&kind).into_owned();
        let writer = Writer::new(kind);
        let store = writer.as_reader();
        let (list_done, listed) = watch::channel(false);
        let pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSES.0)
            .with_max_delay(PAUSES.1)
            .with_jitter()
            .without_max_times();
        let events = watch_objects(api, watcher::Config::default())
            .modify(move |object| {
                object.managed_fields_mut().clear();
                trim(object);
            })
            .backoff(ExponentialBackoff::from(pauses))
            .reflect(writer);
        let (changed, stop) = (Arc::clone(changed), stop.clone());
        tokio::spawn(async move {
            let mut events = pin!(events);
            let mut failing = false;
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = stop.cancelled() => return,
                };
                match event {
                    Some(Ok(event)) => {
                        failing = false;
                        if matches!(event, Event::InitDone) {
                            list_done.send_replace(true);
                        }
                        // The objects of a new list are not in the store before the list is complete.
                        if !matches!(event, Event::Init | Event::InitApply(_)) {
                            changed.send_modify(|count| *count += 1);
                        }
                    }
                    Some(Err(error)) => {
                        log_failure(&plural, &error, failing);
                        failing = true;
                    }
                    None => return,
                }
            }
        });
        Self { store, listed }
    }

    /// Waits until all objects were listed once; forever if the watch was stopped before.
    pub async fn listed(&self) {
        let mut listed = self.listed.clone();
        if listed.wait_for(|listed| *listed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns all objects by namespace and name; `None` before the first list is complete.
    pub fn all(&self) -> Option<Vec<Arc<K>>> {
        if !*self.listed.borrow() {
            return None;
        }
        let mut all = self.store.state();
        // The store is a hash map: without an order, texts that are made from it would change from call to call.
        all.sort_by_cached_key(|object| (object.namespace(), object.name_any()));
        Some(all)
    }
}

/// Logs a failure of a watch: as a warning once per outage, then for debugging only.
fn log_failure(kind: &str, error: &watcher::Error, failing: bool) {
    if failing {
        tracing::debug!(kind, %error, "Failed to watch, again.");
    } else {
        tracing::warn!(kind, %error, "Failed to watch, retrying; the last known objects are used meanwhile.");
    }
}
