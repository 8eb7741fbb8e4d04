//! The install that README.md describes: its commands are pasted into a shell whose `docker` and `kubectl` write down what they
//! are asked, and what would be applied carries the registry and the tag that the reader has chosen, everywhere.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What README.md says to replace.
const SAID: &str = "export REGISTRY=registry.example.com/team TAG=0.1.0";
/// A registry with a port, whose colon is not the tag's.
const REGISTRY: &str = "registry.test:5000/other/team";
const TAG: &str = "7.8.9-x";
/// What the loop builds.
const PROGRAMS: [&str; 5] =
    ["sluice-driver", "sluice-batcher", "sluice-preloader", "sluice-autoscaler", "sluice-loadtest"];
/// Builds nothing: writes down what was asked for.
const DOCKER: &str = "#!/bin/sh\necho \"$@\" >> \"$LOG/docker\"\n";
/// Applies nothing: writes down what would be applied, as kustomize makes it.
const KUBECTL: &str = r#"#!/bin/sh
set -e
echo "$@" >> "$LOG/kubectl"
number=$(wc -l < "$LOG/kubectl")
case "$1 $2 $3" in
"apply -k "*) "$KUBECTL" kustomize "$3" > "$LOG/applied-$number.yaml" ;;
"apply -f -") cat > "$LOG/applied-$number.yaml" ;;
"apply -f "*) cp "$3" "$LOG/applied-$number.yaml" ;;
kustomize*) exec "$KUBECTL" "$@" ;;
esac
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The blocks of shell commands between README.md's heading of Kubernetes and the next one of its rank.
fn commands() -> Vec<String> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let section = text.split("\n## On Kubernetes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// A kubectl of this machine, or of the test cluster's cache.
fn kubectl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("kubectl"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let cached = cache.and_then(|cache| fs::read_dir(cache.join("sluice/testbed")).ok());
    let cached = cached.into_iter().flatten().map(|entry| entry.unwrap().path().join("kubectl"));
    in_path.chain(cached).find(|file| file.is_file())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn program(folder: &Path, name: &str, text: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Every image that an object names, and the sidecar's in the preloader's settings.
fn images(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| images(item, found)),
        Value::Object(fields) => {
            let is_sidecars = fields.get("name").is_some_and(|name| name == "SLUICE_PRELOADER_SIDECAR_IMAGE");
            let image = fields.get("image").or(fields.get("value").filter(|_| is_sidecars));
            found.extend(image.and_then(Value::as_str).map(ToOwned::to_owned));
            fields.values().for_each(|field| images(field, found));
        }
        _ => {}
    }
}

fn documents(path: &Path) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap();
    all.into_iter().filter(Value::is_object).collect()
}

#[test]
fn the_commands_of_the_readme_install_from_the_registry_that_they_push_to() {
    let Some(kubectl) = kubectl() else {
        // Seen also where the output of tests that pass is not shown.
        writeln!(std::io::stderr(), "SKIPPED install.rs: no kubectl in PATH or in the test cluster's cache")
            .unwrap();
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (log, programs) = (folder.path().join("log"), folder.path().join("programs"));
    fs::create_dir_all(&log).unwrap();
    copy(&root().join("config"), &folder.path().join("config"));
    program(&programs, "docker", DOCKER);
    program(&programs, "kubectl", KUBECTL);
    let commands = commands().concat();
    assert_eq!(commands.matches(SAID).count(), 1, "README.md sets registry and tag in another way");
    let commands = commands.replace(SAID, &format!("export REGISTRY={REGISTRY} TAG={TAG}"));
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("KUBECTL", &kubectl)
        .env("LOG", &log)
        .envs([("REGISTRY_USER", "somebody"), ("REGISTRY_PASSWORD", "secret")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let expected: BTreeSet<String> =
        PROGRAMS.iter().map(|program| format!("{REGISTRY}/{program}:{TAG}")).collect();
    let docker = fs::read_to_string(log.join("docker")).unwrap();
    for (program, image) in PROGRAMS.iter().map(|program| (program, format!("{REGISTRY}/{program}:{TAG}"))) {
        assert!(docker.contains(&format!("build --build-arg BIN={program} --tag {image} .\n")), "{docker}");
        assert!(docker.contains(&format!("push {image}\n")), "{docker}");
    }
    let mut applied = Vec::new();
    let mut objects = Vec::new();
    for entry in fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|extension| extension == "yaml") {
            objects.extend(documents(&entry));
        }
    }
    objects.iter().for_each(|object| images(object, &mut applied));
    assert_eq!(applied.into_iter().collect::<BTreeSet<_>>(), expected, "all are used, and no other");
    assert!(objects.iter().all(|object| object["metadata"]["name"] != "sluice-images"));

    let secrets = fs::read_to_string(log.join("kubectl")).unwrap();
    assert!(secrets.contains("--docker-server=registry.test:5000 "), "{secrets}");
    let with_secret: Vec<&Value> = objects
        .iter()
        .filter(|object| {
            object["spec"]["template"]["spec"]["imagePullSecrets"][0]["name"] == "sluice-registry"
        })
        .collect();
    let kinds = |kind: &str| with_secret.iter().filter(|object| object["kind"] == kind).count();
    assert_eq!((kinds("Deployment"), kinds("DaemonSet")), (3, 1));
    let preloader = with_secret.iter().find(|object| object["metadata"]["name"] == "sluice-preloader");
    let variables =
        preloader.unwrap()["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let secret = variables.iter().find(|one| one["name"] == "SLUICE_PRELOADER_SIDECAR_PULL_SECRET");
    assert_eq!(secret.unwrap()["value"], "sluice-registry");
    assert!(objects.iter().any(|object| object["kind"] == "NetworkPolicy"));
}

/// Needs no kubectl: what stands in the tree is the registry and the tag that the setting names, so a change of the setting
/// reaches all of it.
#[test]
fn the_images_of_the_tree_are_those_of_the_setting_at_this_version() {
    let settings = fs::read_to_string(root().join("config/images/images.env")).unwrap();
    let values: Vec<&str> = settings.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(values, ["registry=sluice.dev", concat!("tag=", env!("CARGO_PKG_VERSION"))]);
    let mut found = Vec::new();
    for file in [
        "driver/daemonset.yaml",
        "preloader/deployment.yaml",
        "preloader/watchdog.yaml",
        "autoscaler/deployment.yaml",
        "batcher/gateway/deployment.yaml",
        "samples/bert-inference.yaml",
        "samples/bert-gateway/bert.yaml",
    ] {
        let before = found.len();
        for document in documents(&root().join("config").join(file)) {
            images(&document, &mut found);
        }
        assert!(found.len() > before, "{file} names no image");
    }
    for image in found {
        let program = image
            .strip_prefix("sluice.dev/")
            .and_then(|image| image.strip_suffix(concat!(":", env!("CARGO_PKG_VERSION"))));
        assert!(program.is_some_and(|program| PROGRAMS.contains(&program)), "{image}");
    }
}
