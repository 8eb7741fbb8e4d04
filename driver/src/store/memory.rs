//! Store in memory for tests, which can be made to fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use sluice_inventory::SliceLayout;
use tokio::sync::Notify;

use super::{ClaimEvent, ClaimRef, Store, StoreError};

#[derive(Default)]
pub(crate) struct MemoryStore {
    slices: Mutex<BTreeMap<String, ResourceSlice>>,
    claims: Mutex<BTreeMap<(String, String), ResourceClaim>>,
    changed: Notify,
    broken: AtomicBool,
    drops_counters: AtomicBool,
    drops_taints: AtomicBool,
    notes_taint_times: AtomicBool,
    published: Mutex<Vec<(ClaimRef, ClaimEvent)>>,
    alters_slices: AtomicBool,
    puts: AtomicUsize,
    held: Mutex<Option<(String, Arc<Notify>)>>,
}

impl MemoryStore {
    pub(crate) fn put_claim(&self, claim: ResourceClaim) {
        let key = |text: &Option<String>| text.clone().unwrap_or_default();
        let key = (key(&claim.metadata.namespace), key(&claim.metadata.name));
        self.claims.lock().unwrap().insert(key, claim);
    }

    pub(crate) fn delete_claim(&self, namespace: &str, name: &str) {
        self.claims.lock().unwrap().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Makes every later call fail, or succeed again.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// Makes the store drop counters, as a server whose feature is off, or keep them again.
    pub(crate) fn set_drops_counters(&self, drops: bool) {
        self.drops_counters.store(drops, Ordering::SeqCst);
    }

    /// Makes the store drop taints, as a server whose feature is off.
    pub(crate) fn set_drops_taints(&self, drops: bool) {
        self.drops_taints.store(drops, Ordering::SeqCst);
    }

    /// Makes the store set the time of each taint, as API servers do.
    pub(crate) fn set_notes_taint_times(&self) {
        self.notes_taint_times.store(true, Ordering::SeqCst);
    }

    /// Returns the events published so far.
    pub(crate) fn published_events(&self) -> Vec<(ClaimRef, ClaimEvent)> {
        self.published.lock().unwrap().clone()
    }

    /// Makes another program alter every slice that is put.
    pub(crate) fn set_alters_slices(&self) {
        self.alters_slices.store(true, Ordering::SeqCst);
    }

    /// Returns the number of slices put so far.
    pub(crate) fn puts(&self) -> usize {
        self.puts.load(Ordering::SeqCst)
    }

    /// Notifies the publisher.
    pub(crate) fn change(&self) {
        self.changed.notify_one();
    }

    /// Makes the next read of a claim of this name wait until the returned `Notify` is notified.
    pub(crate) fn hold(&self, name: &str) -> Arc<Notify> {
        let open = Arc::new(Notify::new());
        *self.held.lock().unwrap() = Some((name.to_owned(), Arc::clone(&open)));
        open
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.broken.load(Ordering::SeqCst) {
            true => Err(StoreError("the store is down".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn slice_layout(&self) -> Result<SliceLayout, StoreError> {
        self.check()?;
        Ok(SliceLayout::Split)
    }

    async fn slices(&self, _: &str, _: &str) -> Result<Vec<ResourceSlice>, StoreError> {
        self.check()?;
        Ok(self.slices.lock().unwrap().values().cloned().collect())
    }

    async fn keeps_counters(&self, _: &ResourceSlice) -> Result<bool, StoreError> {
        self.check()?;
        Ok(!self.drops_counters.load(Ordering::SeqCst))
    }

    async fn keeps_taints(&self, _: &ResourceSlice) -> Result<bool, StoreError> {
        self.check()?;
        Ok(!self.drops_taints.load(Ordering::SeqCst))
    }

    async fn put_slice(&self, slice: &ResourceSlice) -> Result<(), StoreError> {
        self.check()?;
        self.puts.fetch_add(1, Ordering::SeqCst);
        let name = slice.metadata.name.clone().unwrap_or_default();
        let mut slice = slice.clone();
        if self.alters_slices.load(Ordering::SeqCst) {
            slice.spec.all_nodes = Some(true);
        }
        if self.notes_taint_times.load(Ordering::SeqCst) {
            let devices = slice.spec.devices.iter_mut().flatten();
            let now = serde_json::from_value(serde_json::json!("2026-01-01T00:00:00Z")).unwrap();
            let now: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time = now;
            devices
                .flat_map(|device| device.taints.iter_mut().flatten())
                .for_each(|taint| taint.time_added = Some(now.clone()));
        }
        self.slices.lock().unwrap().insert(name, slice);
        self.changed.notify_one();
        Ok(())
    }

    async fn delete_slice(&self, name: &str) -> Result<(), StoreError> {
        self.check()?;
        self.slices.lock().unwrap().remove(name);
        self.changed.notify_one();
        Ok(())
    }

    async fn slices_changed(&self) {
        self.changed.notified().await;
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<ResourceClaim>, StoreError> {
        let held = self.held.lock().unwrap().take_if(|(held, _)| held == name);
        if let Some((_, open)) = held {
            open.notified().await;
        }
        self.check()?;
        Ok(self.claims.lock().unwrap().get(&(namespace.to_owned(), name.to_owned())).cloned())
    }

    async fn node(&self, _: &str) -> Result<Option<Node>, StoreError> {
        self.check()?;
        Ok(None)
    }

    async fn claims(&self) -> Result<Vec<ResourceClaim>, StoreError> {
        self.check()?;
        Ok(self.claims.lock().unwrap().values().cloned().collect())
    }

    async fn publish_event(&self, claim: &ClaimRef, event: &ClaimEvent) {
        self.published.lock().unwrap().push((claim.clone(), event.clone()));
    }

    async fn offer_classes(&self, _: &[DeviceClass]) -> Result<(), StoreError> {
        self.check()
    }
}
