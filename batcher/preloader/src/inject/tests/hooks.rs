//! A model's own preStop hook, around the drain.

use serde_json::{Value, json};

use super::*;

fn hooked(hook: Value) -> impl FnOnce(&mut Value) {
    move |pod| {
        pod["spec"]["containers"][0]["lifecycle"] =
            json!({ "preStop": hook, "postStart": { "sleep": { "seconds": 1 } } })
    }
}

#[test]
fn a_hook_of_the_models_own_is_done_by_the_sidecar_around_the_drain() {
    let sleep = injected(&pod(hooked(json!({ "sleep": { "seconds": 5 } }))));
    assert_eq!(sleep["spec"]["terminationGracePeriodSeconds"], 30 + 27 + 5);
    let lifecycle = &sleep["spec"]["containers"][0]["lifecycle"];
    let path = lifecycle["preStop"]["httpGet"]["path"].as_str().unwrap();
    assert!(path.starts_with("/drain?") && lifecycle["postStart"]["sleep"]["seconds"] == 1, "{lifecycle}");
    let arguments = |document: &Value| document["spec"]["initContainers"][1]["args"].to_string();
    assert!(arguments(&sleep).contains("\"--drain-delay-ms=5000\""), "{}", arguments(&sleep));
    for (port, number) in [(json!("http"), 9000), (json!(9000), 9000), (json!("metrics"), 9002)] {
        let headers = json!([{ "name": "X-Token", "value": "a, b" }]);
        let get = injected(&pod(hooked(
            json!({ "httpGet": { "path": "stop?$(HOME)", "port": port, "httpHeaders": headers } }),
        )));
        assert_eq!(get["spec"]["terminationGracePeriodSeconds"], 30 + 27);
        let arguments = arguments(&get);
        for argument in [
            format!("--after-drain=http://127.0.0.1:{number}/stop?$$(HOME)"),
            "--after-drain-timeout-ms=30000".to_owned(),
            "--after-drain-header=X-Token: a, b".to_owned(),
        ] {
            assert!(arguments.contains(&format!("\"{argument}\"")), "{argument}: {arguments}");
        }
    }
}

#[test]
fn a_command_that_drains_first_is_kept_and_any_other_is_told_how_to() {
    let exec = |script: &str| hooked(json!({ "exec": { "command": ["/bin/sh", "-c", script] } }));
    let refused = refusal(exec("save \"$STATE\" && sleep 3"));
    assert_eq!(refused.field, "spec.containers[0].lifecycle.preStop.exec");
    let instead = "curl -s \"$SLUICE_DRAIN_URL\"; save \"$STATE\" && sleep 3";
    let written = serde_json::to_string(instead).unwrap();
    assert!(refused.problem.contains(&format!("command: [\"/bin/sh\",\"-c\",{written}]")), "{refused}");
    let kept = injected(&pod(exec(instead)));
    let model = &kept["spec"]["containers"][0];
    assert_eq!(model["lifecycle"]["preStop"], json!({ "exec": { "command": ["/bin/sh", "-c", instead] } }));
    let variable = json!({
        "name": "SLUICE_DRAIN_URL", "value": "http://127.0.0.1:8081/drain?token=secret&deadline_ms=27000",
    });
    assert_eq!(model["env"], json!([variable]));
    let words = refusal(hooked(json!({ "exec": { "command": ["/bin/flush", "--now please"] } })));
    assert!(words.problem.contains(r#"; /bin/flush \"--now please\""#), "{words}");
}

#[test]
fn a_hook_that_nobody_can_call_is_refused_by_its_field() {
    for (hook, field) in [
        (json!({ "httpGet": { "port": 9000, "scheme": "HTTPS" } }), "httpGet.scheme"),
        (json!({ "httpGet": { "port": 9000, "host": "10.0.0.1" } }), "httpGet.host"),
        (json!({ "httpGet": { "port": "nowhere" } }), "httpGet.port"),
        (json!({ "httpGet": { "port": 9000, "path": "/a b" } }), "httpGet.path"),
        (
            json!({ "httpGet": { "port": 9000, "httpHeaders": [{ "name": "a", "value": "b\nc" }] } }),
            "httpGet.httpHeaders[0]",
        ),
        (json!({ "sleep": { "seconds": 5000 } }), "sleep.seconds"),
        (json!({ "tcpSocket": { "port": 9000 } }), "tcpSocket"),
    ] {
        let refused = refusal(hooked(hook));
        assert_eq!(refused.field, format!("spec.containers[0].lifecycle.preStop.{field}"));
    }
}
