//! Every sample is read by the very reader that the programs use; Kubernetes' own kinds by its types, strictly.
#![cfg(feature = "crd")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_config::api::manifest;
use sluice_config::names::{API_GROUP, pod};

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    all.into_iter().filter(Value::is_object).collect()
}

/// Reads the object and writes it again: what is missing then was no field of the type.
fn strictly<T: Serialize + DeserializeOwned>(document: &Value) -> T {
    let read: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), *document);
    read
}

#[test]
fn every_sample_is_accepted() {
    let mut read = 0;
    for path in samples() {
        let documents = documents(&path);
        assert!(!documents.is_empty(), "{} has no document", path.display());
        let mut own = String::new();
        for document in documents {
            let kind = (document["apiVersion"].as_str().unwrap(), document["kind"].as_str().unwrap());
            match kind {
                ("apps/v1", "Deployment") => drop(strictly::<Deployment>(&document)),
                ("v1", "Service") => drop(strictly::<Service>(&document)),
                ("v1", "Pod") => drop(strictly::<Pod>(&document)),
                ("resource.k8s.io/v1", "ResourceClaimTemplate") => {
                    drop(strictly::<ResourceClaimTemplate>(&document));
                }
                (version, _) if version.starts_with(API_GROUP) => {
                    own += &format!("---\n{document}\n");
                }
                _ => panic!("{}: add {kind:?} here", path.display()),
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.yaml");
        std::fs::write(&file, own).unwrap();
        let accepted = manifest::read(&file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        read += accepted.len();
    }
    assert!(read > 0, "no samples found");
}

#[test]
fn the_objects_of_the_cluster_sample_find_each_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/bert-inference.yaml");
    let of_kind = |kind: &str| {
        documents(&path)
            .into_iter()
            .find(|document| document["kind"] == kind)
            .unwrap_or_else(|| panic!("no {kind}"))
    };
    let (deployment, service) = (of_kind("Deployment"), of_kind("Service"));
    let (template, autoscaler) = (of_kind("ResourceClaimTemplate"), of_kind("InferenceAutoscaler"));
    let pod_template = &deployment["spec"]["template"];
    let labels = &pod_template["metadata"]["labels"];
    assert_eq!(labels[pod::INJECT_LABEL], pod::INJECT_ENABLED);
    assert_eq!(labels["app"], deployment["spec"]["selector"]["matchLabels"]["app"]);
    assert_eq!(labels["app"], service["spec"]["selector"]["app"]);
    let model = &pod_template["spec"]["containers"][0];
    assert_eq!(service["spec"]["ports"][0]["targetPort"], model["ports"][0]["name"]);
    let claim = &pod_template["spec"]["resourceClaims"][0];
    assert_eq!(claim["resourceClaimTemplateName"], template["metadata"]["name"]);
    assert_eq!(claim["name"], model["resources"]["claims"][0]["name"]);
    assert_eq!(pod_template["spec"]["schedulingGates"][0]["name"], pod::GATE_ALIAS);
    assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    assert_eq!(autoscaler["spec"]["model"], pod_template["metadata"]["annotations"][pod::MODELS_ANNOTATION]);
}
