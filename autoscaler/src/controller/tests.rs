use std::collections::BTreeMap;
use std::path::PathBuf;

use sluice_config::api::inference_autoscaler::{InferenceAutoscalerSpec, Objective, ScaleTargetRef};
use sluice_config::api::{Behavior, InferenceAutoscaler, ScalingRules};
use sluice_config::objects::ObjectDir;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::announcements::Silent;
use crate::decisions::DecisionLogs;
use crate::platform::Target;
use crate::platform::fake::{FakePlatform, METRICS_URL};
use crate::signals::fake::FakeScraper;

const TICK: Duration = Duration::from_secs(1);
/// Of the curve below within the objective below, one replica serves somewhat below 640 rows/s.
const CURVE: &str = "\
sluice_batcher_curve_alpha_seconds{model=\"bert\"} 0.02
sluice_batcher_curve_beta_seconds{model=\"bert\"} 0.00125
sluice_batcher_batch_rows_limit{model=\"bert\"} 64
sluice_batcher_curve_samples{model=\"bert\"} 1000
";

struct Rig {
    dir: TempDir,
    platform: Arc<FakePlatform>,
    scraper: Arc<FakeScraper>,
    object: watch::Sender<Arc<InferenceAutoscaler>>,
    task: JoinHandle<()>,
    rows: f64,
}

fn object(change: impl FnOnce(&mut InferenceAutoscalerSpec)) -> InferenceAutoscaler {
    let mut spec = InferenceAutoscalerSpec {
        scale_target_ref: ScaleTargetRef {
            api_version: "sluice.dev/v1alpha1".to_owned(),
            kind: "LocalDeployment".to_owned(),
            name: "bert".to_owned(),
        },
        model: "bert".to_owned(),
        objective: Objective { percentile: 99.0, latency_ms: 400 },
        min_replicas: 1,
        max_replicas: 8,
        gateway: None,
        behavior: Behavior {
            scale_up: None,
            scale_down: Some(ScalingRules {
                stabilization_window_seconds: Some(30),
                ..ScalingRules::default()
            }),
        },
        scale_to_zero_idle_seconds: 60,
        expected_startup_seconds: 1,
        paused: false,
        dry_run: false,
    };
    change(&mut spec);
    let mut object = InferenceAutoscaler::new("bert", spec);
    object.metadata.namespace = Some("default".to_owned());
    object
}

impl Rig {
    async fn new(gpus: u32, replicas: u32, change: impl FnOnce(&mut InferenceAutoscalerSpec)) -> Self {
        let platform = Arc::new(FakePlatform::new(gpus, replicas));
        Self::with(tempfile::tempdir().unwrap(), platform, 0.0, change).await
    }

    async fn with(
        dir: TempDir,
        platform: Arc<FakePlatform>,
        rows: f64,
        change: impl FnOnce(&mut InferenceAutoscalerSpec),
    ) -> Self {
        let scraper = Arc::new(FakeScraper::default());
        let context = Context {
            platform: platform.clone(),
            scraper: scraper.clone(),
            second: None,
            events: Arc::new(Silent),
            status: Arc::new(ObjectDir::new(dir.path())),
            clock: Clock::starting_at(1_700_000_000_000),
        };
        let timing = Timing {
            tick: TICK,
            windows: Windows {
                demand_ms: 10_000,
                burst_ms: 3_000,
                trend_ms: 24_000,
                stale_ms: 3_000,
                panic_ms: 10_000,
                drain_ms: 5_000,
            },
            latency_window_ms: 10_000,
        };
        let name = Target { namespace: "default".to_owned(), name: "bert".to_owned() };
        let log = DecisionLogs::open(dir.path(), 64 << 20).log(&name);
        let (object, changes) = watch::channel(Arc::new(object(change)));
        let controller = Controller::new(changes, Arc::new(context), timing, log).await;
        let task = tokio::spawn(controller.run(CancellationToken::new()));
        Self { dir, platform, scraper, object, task, rows }
    }

    /// Lets time pass with so many rows per second arriving.
    async fn load(&mut self, rows_per_second: f64, seconds: u32) {
        for _ in 0..seconds {
            self.rows += rows_per_second;
            self.page(&self.rows.to_string());
            self.pass().await;
        }
    }

    fn page(&self, rows: &str) {
        let page = format!("sluice_batcher_demand_rows_total{{model=\"bert\"}} {rows}\n{CURVE}");
        self.scraper.set(METRICS_URL, page);
    }

    /// One tick.
    async fn pass(&self) {
        tokio::time::sleep(TICK).await;
    }

    async fn asked(&self) -> u32 {
        let target = target_of(&self.object.borrow());
        self.platform.replicas(&target, None).await.unwrap().asked
    }

    fn written(&self) -> InferenceAutoscaler {
        ObjectDir::new(self.dir.path()).get(Some("default"), "bert").unwrap().unwrap()
    }

    fn condition(&self, name: &str) -> (String, String) {
        let status = self.written().status.unwrap();
        let found = status.conditions.into_iter().find(|condition| condition.type_ == name).unwrap();
        (found.status, found.reason)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("decisions-default.bert.jsonl")
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_follow_demand_up_and_after_the_window_down() {
    let mut rig = Rig::new(2, 1, |_| ()).await;
    rig.load(200.0, 20).await;
    assert_eq!(rig.asked().await, 1);
    rig.load(1500.0, 30).await;
    let peak = rig.asked().await;
    assert!(peak >= 3, "{peak}");
    rig.load(200.0, 10).await;
    assert_eq!(rig.asked().await, peak, "held by the stabilisation window");
    rig.load(200.0, 60).await;
    assert_eq!(rig.asked().await, 1);

    let status = rig.written().status.unwrap();
    assert_eq!((status.desired_replicas, status.ready_replicas), (1, 1));
    assert!(status.decisions.iter().any(|decision| decision.to > decision.from));
    let last = status.decisions.iter().find(|decision| decision.to != decision.from).unwrap();
    assert!(last.explanation.iter().any(|line| line.starts_with("need")), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn replicas_are_held_while_the_batcher_cannot_be_scraped() {
    let mut rig = Rig::new(2, 4, |_| ()).await;
    rig.load(1500.0, 40).await;
    let before = rig.asked().await;
    rig.scraper.take_away(METRICS_URL);
    for _ in 0..300 {
        rig.pass().await;
    }
    assert_eq!(rig.asked().await, before);
    assert_eq!(rig.condition("MetricsFresh").0, "False");
    assert_eq!(rig.condition("ScalingActive").0, "False");
}

#[tokio::test(start_paused = true)]
async fn replicas_are_held_while_demand_is_not_a_number() {
    let mut rig = Rig::new(2, 4, |_| ()).await;
    rig.load(1500.0, 40).await;
    let before = rig.asked().await;
    rig.page("NaN");
    for _ in 0..300 {
        rig.pass().await;
    }
    assert_eq!(rig.asked().await, before);
    assert_eq!(rig.condition("MetricsFresh").0, "False");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_asked_for_than_is_free_and_the_status_says_what_is_missing() {
    let mut rig = Rig::new(1, 1, |_| ()).await;
    rig.load(6000.0, 60).await;
    assert_eq!(rig.asked().await, 3, "three slices of 2g.10gb fit on one GPU");
    assert!(rig.platform.calls().iter().all(|wanted| *wanted <= 3), "{:?}", rig.platform.calls());
    assert_eq!(rig.condition("CapacityLimited"), ("True".to_owned(), "TooFewFreeSlices".to_owned()));
    let decisions = serde_json::to_string(&rig.written().status.unwrap().decisions).unwrap();
    assert!(decisions.contains("of 2g.10gb"), "{decisions}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_recommends_and_changes_nothing() {
    let mut rig = Rig::new(2, 1, |spec| spec.dry_run = true).await;
    rig.load(1500.0, 40).await;
    assert!(rig.platform.calls().is_empty());
    let status = rig.written().status.unwrap();
    assert!(status.desired_replicas > 1);
    assert_eq!(status.current_replicas, 1);
    assert_eq!(rig.condition("DryRun").0, "True");
}

#[tokio::test(start_paused = true)]
async fn a_pause_keeps_the_replicas_and_its_end_lets_them_go_on() {
    let mut rig = Rig::new(2, 1, |spec| spec.paused = true).await;
    rig.load(1500.0, 40).await;
    assert!(rig.platform.calls().is_empty());
    assert_eq!(rig.condition("AbleToScale"), ("False".to_owned(), "Paused".to_owned()));
    rig.object.send_replace(Arc::new(object(|_| ())));
    rig.load(1500.0, 20).await;
    assert!(rig.asked().await >= 3);
    assert_eq!(rig.written().metadata.generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_scale_down_until_the_window_has_data() {
    let mut first = Rig::new(2, 1, |_| ()).await;
    first.load(1500.0, 40).await;
    let peak = first.asked().await;
    first.task.abort();
    let Rig { dir, platform, .. } = first;
    let calls = platform.calls().len();
    // The new one sees little demand from its first second on.
    let mut second = Rig::with(dir, platform, 0.0, |_| ()).await;
    second.load(50.0, 25).await;
    assert_eq!(second.asked().await, peak);
    assert_eq!(second.platform.calls().len(), calls, "no change at all");
    let times: BTreeMap<_, _> = second
        .written()
        .status
        .unwrap()
        .conditions
        .into_iter()
        .map(|condition| (condition.type_, condition.last_transition_time))
        .collect();
    assert!(times.contains_key("MetricsFresh"));
    second.load(50.0, 40).await;
    assert_eq!(second.asked().await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_edited_minimum_is_followed_without_any_metrics() {
    let rig = Rig::new(2, 1, |_| ()).await;
    rig.pass().await;
    rig.object.send_replace(Arc::new(object(|spec| spec.min_replicas = 2)));
    rig.pass().await;
    rig.pass().await;
    assert_eq!(rig.asked().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_written_stops_no_decision() {
    let mut rig = Rig::new(2, 1, |_| ()).await;
    // Before the first tick: the file cannot be made.
    std::fs::create_dir(rig.log()).unwrap();
    rig.load(1500.0, 40).await;
    assert!(rig.asked().await >= 3);
    std::fs::remove_dir(rig.log()).unwrap();
    rig.load(1500.0, 5).await;
    assert!(crate::replay::replay_file(&rig.log()).unwrap().records >= 4, "it is written again");
}

#[tokio::test(start_paused = true)]
async fn every_decision_is_logged_and_replays_to_the_same_bits() {
    let mut rig = Rig::new(1, 1, |_| ()).await;
    rig.load(1500.0, 30).await;
    rig.page("NaN");
    for _ in 0..10 {
        rig.pass().await;
    }
    let report = crate::replay::replay_file(&rig.log()).unwrap();
    assert!(report.is_equal(), "{report}");
    assert!(report.records >= 40, "{report}");
    let text = std::fs::read_to_string(rig.log()).unwrap();
    let forged = dir_file(&rig, &text.replacen("\"desired\":1", "\"desired\":2", 1));
    let report = crate::replay::replay_file(&forged).unwrap();
    assert_eq!((report.differences, report.unreadable), (1, 0), "{report}");
}

fn dir_file(rig: &Rig, text: &str) -> PathBuf {
    let path = rig.dir.path().join("forged.jsonl");
    std::fs::write(&path, text).unwrap();
    path
}
