//! Everything that `kubectl apply -k config/default` installs, read strictly; and what holds for every workload and account.
#![cfg(feature = "crd")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::resource::v1::DeviceClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const FOLDERS: [&str; 5] = ["autoscaler", "default", "driver", "preloader", "rbac"];

/// Every object of the installed folders, with its file.
fn installed() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let listed: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(path.join("kustomization.yaml")).unwrap())
                .unwrap();
        let listed: Vec<&str> =
            listed["resources"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if !name.ends_with(".yaml") || name == "kustomization.yaml" {
                continue;
            }
            assert!(listed.contains(&name.as_str()), "{folder}/{name} is not installed");
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            let documents = documents.into_iter().filter(Value::is_object);
            all.extend(documents.map(|document| (format!("{folder}/{name}"), document)));
        }
    }
    all
}

fn of_kind(kind: &str) -> Vec<Value> {
    installed()
        .into_iter()
        .map(|(_, document)| document)
        .filter(|document| document["kind"] == kind)
        .collect()
}

/// Reads the object and writes it again: what is missing then was no field of the type.
fn strictly<T: Serialize + DeserializeOwned>(file: &str, document: &Value) {
    let read: T = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), *document, "{file}");
}

#[test]
fn every_field_is_one_of_its_kind() {
    for (file, document) in installed() {
        match document["kind"].as_str().unwrap() {
            "ClusterRole" => strictly::<ClusterRole>(&file, &document),
            "ClusterRoleBinding" => strictly::<ClusterRoleBinding>(&file, &document),
            "DaemonSet" => strictly::<DaemonSet>(&file, &document),
            "Deployment" => strictly::<Deployment>(&file, &document),
            "DeviceClass" => strictly::<DeviceClass>(&file, &document),
            "MutatingWebhookConfiguration" => strictly::<MutatingWebhookConfiguration>(&file, &document),
            "Namespace" => strictly::<Namespace>(&file, &document),
            "PodDisruptionBudget" => strictly::<PodDisruptionBudget>(&file, &document),
            "Role" => strictly::<Role>(&file, &document),
            "RoleBinding" => strictly::<RoleBinding>(&file, &document),
            "Service" => strictly::<Service>(&file, &document),
            "ServiceAccount" => strictly::<ServiceAccount>(&file, &document),
            "ValidatingAdmissionPolicy" => strictly::<ValidatingAdmissionPolicy>(&file, &document),
            "ValidatingAdmissionPolicyBinding" => {
                strictly::<ValidatingAdmissionPolicyBinding>(&file, &document)
            }
            "NetworkPolicy" => strictly::<NetworkPolicy>(&file, &document),
            kind => panic!("{file}: add {kind} here"),
        }
    }
}

#[test]
fn every_policy_is_in_force() {
    let names = |kind: &str| -> Vec<Value> {
        of_kind(kind).iter().map(|document| document["metadata"]["name"].clone()).collect()
    };
    let policies = names("ValidatingAdmissionPolicy");
    assert_eq!(policies.len(), 6, "{policies:?}");
    assert_eq!(policies, names("ValidatingAdmissionPolicyBinding"));
    for policy in of_kind("ValidatingAdmissionPolicy") {
        let (name, spec) = (&policy["metadata"]["name"], &policy["spec"]);
        // The API server looks parameters up before it asks whom the policy concerns: one that cannot be had, or is not
        // there, must stop nobody.
        let has_parameters = !spec["paramKind"].is_null();
        assert_eq!(spec["failurePolicy"], if has_parameters { "Ignore" } else { "Fail" }, "{name}");
        assert_ne!(spec["matchConditions"], Value::Null, "{name} concerns everybody");
    }
    for binding in of_kind("ValidatingAdmissionPolicyBinding") {
        assert_eq!(binding["spec"]["policyName"], binding["metadata"]["name"]);
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
        assert_ne!(binding["spec"]["paramRef"]["parameterNotFoundAction"], "Deny");
    }
}

#[test]
fn every_workload_has_requests_and_a_limit_of_memory_and_an_account_of_its_own() {
    let mut accounts = Vec::new();
    for workload in of_kind("Deployment").into_iter().chain(of_kind("DaemonSet")) {
        let (name, pod) = (&workload["metadata"]["name"], &workload["spec"]["template"]["spec"]);
        assert_eq!(pod["serviceAccountName"], *name);
        accounts.push(name.clone());
        for container in pod["containers"].as_array().unwrap() {
            let resources = &container["resources"];
            for field in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(resources.pointer(field).is_some(), "{name}: no {field}");
            }
        }
    }
    accounts.sort_by_key(Value::to_string);
    accounts.dedup();
    assert_eq!(accounts.len(), 4, "{accounts:?}");
    for account in of_kind("ServiceAccount") {
        assert!(accounts.contains(&account["metadata"]["name"]), "nobody uses {account}");
    }
}

#[test]
fn accounts_have_no_more_than_they_use() {
    let has = |rule: &Value, field: &str, value: &str| {
        rule[field].as_array().unwrap().iter().any(|one| one == value)
    };
    for role in of_kind("Role").into_iter().chain(of_kind("ClusterRole")) {
        let name = &role["metadata"]["name"];
        // The control plane fills in the rules of one that gathers those of others.
        assert_ne!(role["rules"].is_array(), role["aggregationRule"].is_object(), "{name}");
        for rule in role["rules"].as_array().into_iter().flatten() {
            assert!(!has(rule, "verbs", "*"), "{name}: {rule}");
            assert!(!has(rule, "resources", "*"), "{name}: {rule}");
            for resource in ["secrets", "leases", "mutatingwebhookconfigurations"] {
                let creates = rule["verbs"] == json!(["create"]);
                let is_named = rule["resourceNames"].as_array().is_some_and(|names| names.len() == 1);
                assert!(
                    !has(rule, "resources", resource) || creates || is_named,
                    "{name}: {rule} names none"
                );
            }
            let is_of_namespace = role["kind"] == "Role";
            assert!(
                is_of_namespace || !has(rule, "resources", "secrets"),
                "{name}: {rule} is of every namespace"
            );
            if has(rule, "resources", "pods") {
                for verb in rule["verbs"].as_array().unwrap() {
                    assert!(
                        ["list", "watch", "patch"].map(Value::from).contains(verb),
                        "{name}: {verb} of pods"
                    );
                }
            }
        }
    }
}

#[test]
fn kubernetes_own_roles_hold_for_autoscalers() {
    let roles = of_kind("ClusterRole");
    let granted = |label: &str| {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{label}");
        let roles = roles.iter().filter(|role| role["metadata"]["labels"][&label] == "true");
        let mut granted: Vec<String> = Vec::new();
        for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
            assert_eq!(rule["apiGroups"], json!(["sluice.dev"]));
            for resource in rule["resources"].as_array().unwrap() {
                let verbs = rule["verbs"].as_array().unwrap().iter();
                granted.extend(
                    verbs.map(|verb| format!("{} {}", verb.as_str().unwrap(), resource.as_str().unwrap())),
                );
            }
        }
        granted.sort();
        granted
    };
    let read = ["get", "list", "watch"].map(|verb| format!("{verb} inferenceautoscalers"));
    let status = read.clone().map(|read| format!("{read}/status"));
    let write = ["create", "delete", "deletecollection", "patch", "update"];
    let write = write.map(|verb| format!("{verb} inferenceautoscalers"));
    let sorted = |all: &[&[String]]| {
        let mut all = all.concat();
        all.sort();
        all
    };
    assert_eq!(granted("view"), sorted(&[&read, &status]));
    assert_eq!(granted("edit"), sorted(&[&read, &status, &write]));
    assert_eq!(granted("admin"), granted("edit"));
}
