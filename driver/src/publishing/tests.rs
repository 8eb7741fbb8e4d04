use super::*;
use crate::health::{Fault, Mark};
use crate::store::memory::MemoryStore;

fn publication() -> Publication {
    let gpus = vec![crate::gpus::fake::gpu()];
    Publication {
        node: "n".to_owned(),
        driver: "gpu.sluice.dev".to_owned(),
        gpus,
        marks: Default::default(),
        monitors: false,
        layout: Some(SliceLayout::Split),
    }
}

/// Returns a second GPU, with MIG mode off.
fn whole_gpu() -> sluice_inventory::Gpu {
    let mut gpu = crate::gpus::fake::gpu();
    gpu.minor = 1;
    gpu.uuid = "GPU-whole".to_owned();
    gpu.mig_enabled = false;
    gpu
}

/// Running publisher with its outcome.
struct Publisher {
    store: Arc<MemoryStore>,
    published: watch::Receiver<Published>,
    publication: watch::Sender<Option<Publication>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Publisher {
    fn start(publication: Publication, store: Arc<MemoryStore>) -> Self {
        let (sender, published) = watch::channel(Err("starting".to_owned()));
        let stop = CancellationToken::new();
        let (publication, publications) = watch::channel(Some(publication));
        let task = tokio::spawn(publish(store.clone(), publications, sender, stop.clone()));
        Self { store, published, publication, stop, task }
    }

    async fn slices(&self) -> Vec<ResourceSlice> {
        self.store.slices("", "").await.unwrap()
    }

    async fn until(&mut self, condition: impl FnMut(&Published) -> bool) -> Published {
        self.published.wait_for(condition).await.unwrap().clone()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn devices(slices: &[ResourceSlice]) -> Vec<String> {
    slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten()).map(|d| d.name.clone()).collect()
}

#[test]
fn what_is_right_is_left_and_what_is_missing_comes_back_in_its_generation() {
    let publication = publication();
    let slices = |generation| publication.slices(SliceLayout::Split, generation).unwrap();
    let put = |existing: &[ResourceSlice], last| {
        plan(&publication, SliceLayout::Split, existing, last).unwrap().put
    };
    let all = slices(3);
    assert!(all.len() > 1);
    assert_eq!(put(&all, 3), []);
    assert_eq!(put(&all[1..], 3), all[..1]);
    assert_eq!(put(&[], 3), all);
    assert_eq!(put(&[], 0), slices(1));
}

#[test]
fn changed_content_raises_the_generation_and_drops_slices_of_the_old_form() {
    let publication = publication();
    let old = publication.slices(SliceLayout::Split, 3).unwrap();
    let plan = plan(&publication, SliceLayout::Combined, &old, 0).unwrap();
    assert_eq!(plan.put, publication.slices(SliceLayout::Combined, 4).unwrap());
    let names = |slices: &[ResourceSlice]| -> std::collections::BTreeSet<Option<String>> {
        slices.iter().map(|slice| slice.metadata.name.clone()).collect()
    };
    let left: Vec<_> = names(&old).difference(&names(&plan.put)).flatten().cloned().collect();
    assert_eq!(plan.delete, left);
    assert!(!left.is_empty());
}

#[tokio::test(start_paused = true)]
async fn wiped_slices_come_back_within_a_second() {
    let mut publisher = Publisher::start(publication(), Arc::default());
    publisher.until(Result::is_ok).await.unwrap();
    let before = publisher.slices().await;
    for slice in &before {
        publisher.store.delete_slice(slice.metadata.name.as_deref().unwrap()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(publisher.slices().await, before);
    publisher.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_is_published_to() {
    let store = Arc::new(MemoryStore::default());
    store.set_broken(true);
    let mut publisher = Publisher::start(publication(), store);
    publisher
        .until(|told| told.as_ref().is_err_and(|reason| reason.contains("the store is down")))
        .await
        .ok();
    tokio::time::sleep(Duration::from_secs(60)).await;
    publisher.store.set_broken(false);
    let begin = tokio::time::Instant::now();
    publisher.until(Result::is_ok).await.unwrap();
    assert!(begin.elapsed() <= LONGEST_PAUSE);
    publisher.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_counters_only_whole_gpus_are_offered_and_the_gate_is_named() {
    let store = Arc::new(MemoryStore::default());
    store.set_drops_counters(true);
    let mut both = publication();
    both.gpus.push(whole_gpu());
    let mut publisher = Publisher::start(both.clone(), store);
    let told = publisher.until(|told| told.as_ref().is_err_and(|reason| reason != "starting")).await;
    assert!(told.as_ref().is_err_and(|reason| reason.contains("DRAPartitionableDevices")), "{told:?}");
    assert_eq!(devices(&publisher.slices().await), ["gpu-1"]);
    // Once the feature is on, the next round publishes everything.
    publisher.store.set_drops_counters(false);
    publisher.store.change();
    publisher.until(Result::is_ok).await.unwrap();
    let generation = publisher.slices().await[0].spec.pool.generation;
    assert_eq!(publisher.slices().await, both.slices(SliceLayout::Split, generation).unwrap());
    publisher.end().await;
}

#[tokio::test(start_paused = true)]
async fn somebody_who_alters_every_slice_is_not_fought_without_end() {
    let store = Arc::new(MemoryStore::default());
    store.set_alters_slices();
    let publisher = Publisher::start(publication(), store);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let rounds = publisher.store.puts() / publication().slices(SliceLayout::Split, 1).unwrap().len();
    assert!((2..20).contains(&rounds), "{rounds} rounds in a minute");
    publisher.end().await;
}

fn with_marks(marks: &[(&str, Mark)]) -> Publication {
    Publication {
        marks: marks.iter().map(|(name, mark)| ((*name).to_owned(), *mark)).collect(),
        ..publication()
    }
}

const LOST: Mark = Mark::Tainted(Fault::GpuLost);

#[tokio::test(start_paused = true)]
async fn a_fault_is_published_as_a_taint_and_what_is_withheld_is_not_there() {
    let mut publisher = Publisher::start(publication(), Arc::default());
    publisher.until(Result::is_ok).await.unwrap();
    let marks = [("gpu-0-mig-2g-10gb-4", LOST), ("gpu-0-mig-3g-20gb-0", Mark::Withheld)];
    publisher.publication.send_replace(Some(with_marks(&marks)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let slices = publisher.slices().await;
    assert!(!devices(&slices).contains(&"gpu-0-mig-3g-20gb-0".to_owned()));
    let tainted: Vec<_> = slices
        .iter()
        .flat_map(|slice| slice.spec.devices.iter().flatten())
        .filter_map(|device| device.taints.as_ref().map(|taints| (device.name.as_str(), &taints[0])))
        .map(|(name, taint)| (name, taint.key.as_str(), taint.effect.as_str()))
        .collect();
    assert_eq!(tainted, [("gpu-0-mig-2g-10gb-4", "gpu.sluice.dev/gpu-lost", "NoExecute")]);
    publisher.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_the_server_drops_taints_the_devices_are_withdrawn() {
    let store = Arc::new(MemoryStore::default());
    store.set_drops_taints(true);
    let mut publisher = Publisher::start(with_marks(&[("gpu-0-mig-2g-10gb-4", LOST)]), store);
    publisher.until(Result::is_ok).await.unwrap();
    let names = devices(&publisher.slices().await);
    assert!(!names.contains(&"gpu-0-mig-2g-10gb-4".to_owned()) && names.len() > 5, "{names:?}");
    publisher.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_notes_when_a_taint_was_added_is_not_fought() {
    let store = Arc::new(MemoryStore::default());
    store.set_notes_taint_times();
    let mut publisher = Publisher::start(with_marks(&[("gpu-0-mig-2g-10gb-4", LOST)]), store);
    publisher.until(Result::is_ok).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let puts = publisher.store.puts();
    assert_eq!(puts, publication().slices(SliceLayout::Split, 1).unwrap().len());
    publisher.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_or_withdrawn_before_it_is_known_what_there_is() {
    let store = Arc::new(MemoryStore::default());
    let earlier = publication().slices(SliceLayout::Split, 3).unwrap();
    store.put_slice(&earlier[0]).await.unwrap();
    let (sender, _published) = watch::channel(Ok(()));
    let (publication, publications) = watch::channel(None);
    let stop = CancellationToken::new();
    let task = tokio::spawn(publish(store.clone(), publications, sender, stop.clone()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.slices("", "").await.unwrap(), earlier[..1]);
    stop.cancel();
    task.await.unwrap();
    drop(publication);
}
