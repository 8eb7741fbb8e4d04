//! What `kubectl-sluice` prints of objects that other users have written.

use std::process::{Command, Output};

use serde_json::{Value, json};

const KUBECTL: &str = env!("CARGO_BIN_EXE_kubectl-sluice");
/// Text that clears the screen, forges a line, reverses the direction of text, and clears the screen once more by a
/// single control character.
const EVIL: &str = "x\u{1b}[2J\nFORGED line\u{202e}\u{9b}2J\u{7}\rz";

fn write(root: &std::path::Path, folder: &str, name: &str, object: &Value) {
    let dir = root.join(folder);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{name}.json")), object.to_string()).unwrap();
}

fn run(store: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(KUBECTL).arg("--store").arg(store).args(arguments).output().unwrap()
}

#[test]
fn whatever_objects_say_is_shown_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let condition = json!({
        "type": EVIL, "status": EVIL, "reason": EVIL, "message": EVIL,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let autoscaler = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "InferenceAutoscaler",
        "metadata": {"namespace": "default", "name": "bert"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": EVIL, "name": EVIL},
            "model": EVIL, "objective": {"percentile": 99, "latencyMs": 300}, "maxReplicas": 3,
        },
        "status": {
            "desiredReplicas": 1, "currentReplicas": 1, "readyReplicas": 1, "conditions": [condition],
            "decisions": [{
                "time": EVIL, "from": 1, "to": 2, "reason": EVIL, "message": EVIL, "explanation": [EVIL],
            }],
        },
    });
    write(dir.path(), "inferenceautoscalers.sluice.dev/default", "bert", &autoscaler);
    let slice = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
        "spec": {
            "driver": "gpu.sluice.dev", "nodeName": "n",
            "pool": {"name": EVIL, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": EVIL, "attributes": {"profile": {"string": EVIL}}}],
        },
    });
    write(dir.path(), "resourceslices/_", "s", &slice);
    let claim = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"namespace": "default", "name": EVIL}, "spec": {},
        "status": {"allocation": {"devices": {"results": [
            {"request": "gpu", "driver": "gpu.sluice.dev", "pool": EVIL, "device": EVIL},
        ]}}},
    });
    write(dir.path(), "resourceclaims/default", "c", &claim);
    let shown = |output: &[u8]| {
        let text = String::from_utf8(output.to_vec()).unwrap();
        let odd = text.chars().find(|c| *c != '\n' && !sluice_process::printable::is_printable(*c));
        assert_eq!(odd, None, "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{text}");
        text
    };
    for arguments in
        [&["capacity"][..], &["explain", "bert"], &["explain", EVIL], &["capacity", "-o", "json"]]
    {
        let output = run(dir.path(), arguments);
        let text = shown(&output.stdout) + &shown(&output.stderr);
        assert!(text.contains("FORGED") || arguments.contains(&EVIL), "{arguments:?}: {text}");
    }
    let json = run(dir.path(), &["capacity", "-o", "json"]).stdout;
    let pools: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(pools[0]["pool"], EVIL, "for programs it is what it is");
    // A file that is no object is quoted in an error.
    write(dir.path(), "resourceclaims/default", "broken", &json!({"metadata": EVIL}));
    let output = run(dir.path(), &["capacity"]);
    assert!(!output.status.success());
    shown(&output.stderr);
}
