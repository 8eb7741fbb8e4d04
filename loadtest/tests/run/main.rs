//! What the generator reports about targets of every kind, on real sockets.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod stub;

use std::net::SocketAddr;
use std::time::Duration;

use sluice_loadtest::model::Model;
use sluice_loadtest::model::settings::Settings as ModelSettings;
use sluice_loadtest::report::Report;
use sluice_loadtest::run::settings::Settings;
use sluice_loadtest::run::{self, RunError};
use sluice_process::Readiness;
use stub::Reply;
use tokio_util::sync::CancellationToken;

fn scenario(target: SocketAddr) -> Settings {
    Settings { target: target.to_string(), duration_ms: 500, connections: 4, ..Settings::default() }
}

async fn report(settings: &Settings) -> Report {
    let (plan, thresholds) = settings.plan(None).unwrap();
    let mut report = run::start(plan).unwrap().finish().await.unwrap();
    report.judge(&thresholds);
    report
}

async fn reference_model() -> SocketAddr {
    let settings = ModelSettings {
        listen: "127.0.0.1:0".into(),
        alpha_ms: 0.1,
        beta_ms: 0.01,
        ..ModelSettings::default()
    };
    let model = Model::bind(&settings, Some("7g.80gb")).await.unwrap();
    let address = model.address().unwrap();
    let readiness = Readiness::default();
    tokio::spawn(model.serve(readiness.clone(), CancellationToken::new()));
    while readiness.get().is_err() {
        tokio::task::yield_now().await;
    }
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_model_answers_every_form_correctly() {
    let target = reference_model().await;
    for protocol in ["rest-json", "rest-binary", "grpc", "rest-json=1,rest-binary=1,grpc=1"] {
        let settings = Settings {
            protocol: protocol.into(),
            rate_rps: Some(200.0),
            rows_per_request: 3,
            objective_ms: Some(10_000),
            ..scenario(target)
        };
        let report = report(&settings).await;
        assert!(report.requests > 50, "{protocol}: {report:?}");
        assert_eq!(report.counts.answered, report.requests, "{protocol}: {:?}", report.wrong_examples);
        assert_eq!(report.attainment, Some(1.0));
        let parts: u64 = report.by_protocol.values().map(|part| part.counts.answered).sum();
        assert_eq!(parts, report.requests);
        let series: u64 = report.series.iter().map(|interval| interval.counts.requests()).sum();
        assert_eq!(series, report.requests, "every request is in one interval");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_says_so_and_has_no_send_lag() {
    let settings = Settings { concurrency: Some(4), ..scenario(reference_model().await) };
    let report = report(&settings).await;
    assert_eq!(report.counts.answered, report.requests);
    assert!(report.closed_loop && report.send_lag.is_none());
    assert!(report.load.contains("coordinated omission"), "{}", report.load);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_keeps_sending_while_the_target_stalls_and_latency_counts_from_the_intended_time() {
    // Nothing is answered before the last request has arrived: a generator that waits would never get there.
    let target = stub::start(|_| Reply::OnceArrived(100)).await;
    let settings = Settings {
        arrivals: sluice_loadtest::arrivals::Spacing::Constant,
        rate_rps: Some(100.0),
        duration_ms: 1000,
        timeout_ms: 60_000,
        ..scenario(target)
    };
    let report = report(&settings).await;
    assert_eq!((report.requests, report.counts.answered), (100, 100));
    // The first was due at 5 ms and the last at 995 ms.
    let latency = report.latency.unwrap();
    assert!(latency.p99_ms >= 970.0, "{latency:?}");
    assert!(latency.p50_ms >= 480.0, "{latency:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_is_lost_and_shown() {
    let target = stub::start(|number| match number {
        0 => Reply::WrongNumbers,
        1 => Reply::WrongRequest,
        _ => Reply::Right,
    })
    .await;
    let report = report(&Settings { rate_rps: Some(100.0), ..scenario(target) }).await;
    assert_eq!(report.counts.lost, 2);
    assert_eq!(report.lost_kinds["wrong_answer"], 2);
    assert_eq!(report.counts.answered, report.requests - 2);
    let examples = report.wrong_examples.join("\n");
    assert!(examples.contains("y of row") && examples.contains("request id is `r999999`"), "{examples}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_errors_and_losses_are_told_apart() {
    let target = stub::start(|number| match number {
        0 => Reply::Status(429),
        1 => Reply::Status(503),
        2 => Reply::Status(502),
        3 => Reply::Status(400),
        4 => Reply::Never,
        5 => Reply::CutOff,
        _ => Reply::Right,
    })
    .await;
    let settings = Settings { rate_rps: Some(100.0), timeout_ms: 5000, ..scenario(target) };
    let report = report(&settings).await;
    let counts = &report.counts;
    assert_eq!((counts.rejected, counts.failed, counts.lost), (1, 1, 4), "{report:?}");
    assert_eq!(report.failures["400"], 1);
    for kind in ["unavailable", "bad_gateway", "timeout", "reset"] {
        assert_eq!(report.lost_kinds[kind], 1, "{kind}");
    }
    assert_eq!(counts.answered, report.requests - 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_is_lost_and_makes_the_run_invalid() {
    let target = stub::start(|_| Reply::Never).await;
    let settings = Settings { rate_rps: Some(100.0), timeout_ms: 1000, max_in_flight: 2, ..scenario(target) };
    let report = report(&settings).await;
    assert!(!report.valid);
    assert_eq!(report.counts.lost, report.requests);
    assert!(report.lost_kinds["unsent"] > 0);
    assert_eq!(run::program::exit_code(&report), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_followed_and_stopped() {
    let settings = Settings {
        rate_rps: Some(200.0),
        duration_ms: 3_600_000,
        interval_ms: 50,
        ..scenario(reference_model().await)
    };
    let (plan, _) = settings.plan(None).unwrap();
    let mut run = run::start(plan).unwrap();
    let mut intervals = run.subscribe();
    let mut answered = 0;
    while answered < 20 {
        answered += intervals.recv().await.unwrap().counts.answered;
    }
    run.stop_token().cancel();
    let report = run.finish().await.unwrap();
    assert!(report.stopped_early);
    assert!(report.counts.answered >= 20);
    assert_eq!(report.counts.answered, report.requests, "what was in flight got its answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_there_is_an_error_and_not_a_report() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (plan, _) = Settings { rate_rps: Some(10.0), ..scenario(unused) }.plan(None).unwrap();
    let error = run::start(plan).unwrap().finish().await.unwrap_err();
    assert!(matches!(error, RunError::Connect { .. }));
    assert!(error.to_string().contains("is the server started?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_ones_own_is_posted_as_it_is() {
    let target = reference_model().await;
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("request.json");
    let x = vec!["1"; 16].join(",");
    let text = format!(
        r#"{{"inputs":[{{"name":"id","shape":[1,1],"datatype":"INT64","data":[7]}},
                       {{"name":"x","shape":[1,16],"datatype":"FP32","data":[{x}]}}]}}"#
    );
    std::fs::write(&body, text).unwrap();
    let settings = Settings { body: Some(body), rate_rps: Some(100.0), ..scenario(target) };
    let report = report(&settings).await;
    assert!(report.requests > 10);
    assert_eq!(report.counts.answered, report.requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_opened_ahead_and_kept() {
    let settings = Settings { concurrency: Some(2), ..scenario(reference_model().await) };
    let report = report(&settings).await;
    assert_eq!(report.connections_opened, 4, "the four opened ahead serve two clients to the end");
    assert!(report.duration_s < Duration::from_secs(60).as_secs_f64());
}
