//! Every sample is read by the very reader that the programs use; Kubernetes' own kinds by its types, strictly.
#![cfg(feature = "crd")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_config::api::manifest;
use sluice_config::names::{API_GROUP, pod};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// All YAML files in and below the folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    let below = folders.iter().flat_map(|folder| self::files(folder));
    files.into_iter().filter(is_yaml).chain(below).collect()
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
    let folders = ["samples", "batcher", "network-policy"];
    for path in folders.into_iter().flat_map(|name| files(&folder(name))) {
        let documents = documents(&path);
        assert!(!documents.is_empty(), "{} has no document", path.display());
        let mut own = String::new();
        for document in documents {
            let kind = (document["apiVersion"].as_str().unwrap(), document["kind"].as_str().unwrap());
            match kind {
                // A patch of a kustomization is a part of one.
                ("apps/v1", "Deployment") if document["spec"]["selector"].is_null() => {}
                ("apps/v1", "Deployment") => drop(strictly::<Deployment>(&document)),
                ("v1", "Service") => drop(strictly::<Service>(&document)),
                ("v1", "ConfigMap") => drop(strictly::<ConfigMap>(&document)),
                ("policy/v1", "PodDisruptionBudget") => drop(strictly::<PodDisruptionBudget>(&document)),
                ("networking.k8s.io/v1", "NetworkPolicy") => drop(strictly::<NetworkPolicy>(&document)),
                ("kustomize.config.k8s.io/v1beta1", "Kustomization")
                | ("kustomize.config.k8s.io/v1alpha1", "Component") => {
                    let base = path.parent().unwrap();
                    let named = ["resources", "components", "patches"].into_iter().flat_map(|list| {
                        document[list]
                            .as_array()
                            .into_iter()
                            .flatten()
                            .map(|item| item.as_str().or(item["path"].as_str()).unwrap().to_owned())
                    });
                    for name in named {
                        assert!(base.join(&name).exists(), "{}: {name} is not there", path.display());
                    }
                }
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

fn of_kind(path: &Path, kind: &str) -> Value {
    let found = documents(path).into_iter().find(|document| document["kind"] == kind);
    found.unwrap_or_else(|| panic!("{}: no {kind}", path.display()))
}

#[test]
fn the_objects_of_the_gateway_sample_find_each_other() {
    let base = folder("batcher/gateway");
    let gateway = of_kind(&base.join("deployment.yaml"), "Deployment");
    let pod = &gateway["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    let ports: Vec<&Value> =
        container["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
    assert!(ports.contains(&&Value::from(pod::ADMIN_PORT_NAME)), "{ports:?}");
    assert!(pod["metadata"]["labels"][pod::INJECT_LABEL].is_null(), "a gateway has no sidecar");
    let service = of_kind(&base.join("service.yaml"), "Service");
    assert!(ports.contains(&&service["spec"]["ports"][0]["targetPort"]));
    let settings = of_kind(&base.join("settings.yaml"), "ConfigMap");
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["name"], settings["metadata"]["name"]);

    let sample = folder("samples/bert-gateway");
    let own = of_kind(&sample.join("gateway/kustomization.yaml"), "Kustomization");
    let mut labels = pod["metadata"]["labels"].as_object().unwrap().clone();
    labels.extend(own["labels"][0]["pairs"].as_object().unwrap().clone());
    let autoscaler = of_kind(&sample.join("bert.yaml"), "InferenceAutoscaler");
    for (label, value) in autoscaler["spec"]["gateway"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels.get(label), Some(value), "{label}");
    }
    let patch = of_kind(&sample.join("gateway/settings.yaml"), "ConfigMap");
    assert_eq!(patch["metadata"]["name"], settings["metadata"]["name"]);
    let settings: Value = serde_saphyr::from_str(patch["data"]["batcher.yaml"].as_str().unwrap()).unwrap();
    let members = of_kind(&sample.join("bert.yaml"), "Service");
    assert_eq!(members["spec"]["clusterIP"], "None");
    let serves = of_kind(&sample.join("gateway/members.yaml"), "Deployment");
    let patched = &serves["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(patched["name"], container["name"]);
    let members_dns = |container: &Value| {
        let variables = container["env"].as_array().unwrap();
        let place = |name: &str| variables.iter().position(|one| one["name"] == name).unwrap();
        assert!(place("NAMESPACE") < place("SLUICE_BATCHER_MEMBERS_DNS"), "it would not be known there");
        let found = variables.iter().find(|one| one["name"] == "SLUICE_BATCHER_MEMBERS_DNS").unwrap();
        found["value"].as_str().unwrap().to_owned()
    };
    let domain = members_dns(container).strip_prefix("members").unwrap().to_owned();
    assert_eq!(members_dns(patched), format!("{}{domain}", members["metadata"]["name"].as_str().unwrap()));
    assert!(domain.ends_with(&format!(".:{}", pod::FRONT_PORT)), "{domain}");
    assert_eq!(settings["models"], Value::from(vec![autoscaler["spec"]["model"].clone()]));
    let target = of_kind(&sample.join("bert.yaml"), "Deployment");
    assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], target["metadata"]["name"]);
    let replica = &target["spec"]["template"]["metadata"];
    assert_eq!(replica["labels"]["app"], members["spec"]["selector"]["app"]);
    let annotations = &replica["annotations"];
    assert_eq!(annotations[pod::BATCHING_ANNOTATION], "off");
    assert_eq!(annotations[pod::MODELS_ANNOTATION], autoscaler["spec"]["model"]);
    assert_eq!(annotations[pod::MAX_BATCH_ROWS_ANNOTATION], settings["maxBatchRows"].to_string());
    let sidecar_ms: u64 = annotations[pod::OBJECTIVE_ANNOTATION].as_str().unwrap().parse().unwrap();
    assert!(sidecar_ms > 10 * settings["objectiveMs"].as_u64().unwrap());
}

#[test]
fn the_objects_of_the_cluster_sample_find_each_other() {
    let path = folder("samples/bert-inference.yaml");
    let of_kind = |kind: &str| of_kind(&path, kind);
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
