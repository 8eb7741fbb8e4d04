//! Random claims of one pod.
use k8s_openapi::api::resource::v1::ResourceClaim;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::classes::Mix;
use crate::cluster::{GPU, NIC, read};

/// Makes the claims, none of them allocated.
pub(crate) fn make(mix: &Mix, random: &mut SmallRng) -> Vec<ResourceClaim> {
    let claims = random.random_range(1..=mix.claims);
    (0..claims).map(|n| claim(mix, random, n)).collect()
}

fn claim(mix: &Mix, random: &mut SmallRng, number: u32) -> ResourceClaim {
    let mut requests = Vec::new();
    let mut names = Vec::new();
    for n in 0..random.random_range(1..=mix.requests) {
        let name = format!("r{n}");
        if random.random_bool(mix.lists) {
            let subrequests = (0..random.random_range(1..=3)).map(|s| {
                let mut subrequest = wanted(&Mix { admin: 0.0, ..*mix }, random);
                subrequest["name"] = json!(format!("s{s}"));
                names.push(format!("{name}/s{s}"));
                subrequest
            });
            let subrequests: Vec<Value> = subrequests.collect();
            requests.push(json!({"name": name, "firstAvailable": subrequests}));
        } else {
            requests.push(json!({"name": name, "exactly": wanted(mix, random)}));
        }
        names.push(name);
    }
    let mut constraints = Vec::new();
    for (chance, kind) in [(mix.matches, "matchAttribute"), (mix.distinct, "distinctAttribute")] {
        if !random.random_bool(chance) {
            continue;
        }
        let attributes = [
            "gpu.example/kind",
            "gpu.example/gpu",
            "numa.example/node",
            "gpu.example/link",
            "gpu.example/ready",
        ];
        let mut constraint = json!({kind: attributes.choose(random)});
        if random.random_bool(0.4) {
            let named: Vec<&String> = names.iter().filter(|_| random.random_bool(0.6)).collect();
            if !named.is_empty() {
                constraint["requests"] = json!(named);
            }
        }
        constraints.push(constraint);
    }
    let name = format!("want-{number}");
    read(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"devices": {"requests": requests, "constraints": constraints}},
    }))
}

fn wanted(mix: &Mix, random: &mut SmallRng) -> Value {
    let mut classes = vec!["any", "gpu", "gpu", "nic", "half", "half", "quarter", "quarter", "full"];
    if mix.failing {
        classes.extend(["kind-a", "linked"]);
    }
    let mut wanted = json!({
        "deviceClassName": classes.choose(random), "allocationMode": "ExactCount", "count": random.random_range(1..=mix.count),
    });
    if random.random_bool(mix.all) {
        wanted["allocationMode"] = json!("All");
        wanted["count"] = Value::Null;
    }
    if random.random_bool(mix.admin) {
        wanted["adminAccess"] = json!(true);
    }
    if random.random_bool(mix.tolerations) {
        let tolerations = [
            json!([{"operator": "Exists"}]),
            json!([{"key": "worn", "operator": "Exists"}]),
            json!([{"key": "worn", "operator": "Equal", "value": "x"}]),
            json!([{"key": "lent", "operator": "Equal", "value": "y", "effect": "NoSchedule"}]),
            json!([{"operator": "Exists", "effect": "NoExecute"}]),
        ];
        wanted["tolerations"] = tolerations.choose(random).cloned().unwrap_or_default();
    }
    if random.random_bool(mix.selectors) {
        let selectors = selectors(mix.failing);
        wanted["selectors"] = json!([{"cel": {"expression": selectors.choose(random)}}]);
    }
    if random.random_bool(mix.capacity) {
        let amounts = ["256Mi", "512Mi", "700Mi", "1Gi", "1536Mi", "2Gi", "3Gi", "6Gi"];
        let name = if random.random_bool(0.9) { "memory" } else { "bandwidth" };
        let amount = if name == "memory" {
            amounts.choose(random).copied()
        } else {
            ["500m", "600m", "1"].choose(random).copied()
        };
        wanted["capacity"] = json!({"requests": {name: amount}});
    }
    wanted
}

/// Returns selectors that fail on no device and, where `failing`, some that fail on devices without a field.
fn selectors(failing: bool) -> Vec<String> {
    let mut selectors = vec![
        format!(r#"device.attributes["{GPU}"].?kind.orValue("none") == "a""#),
        format!(r#"device.attributes["{NIC}"].?kind.orValue("none") != "b""#),
        format!(r#"device.driver == "{GPU}" || device.driver.startsWith("nic")"#),
        r#"device.attributes["numa.example"].node == 0"#.to_owned(),
        format!(r#""link" in device.attributes["{GPU}"]"#),
        format!(
            r#"has(device.attributes["{GPU}"].link) ? device.attributes["{GPU}"].link == "l1" : device.driver == "{NIC}""#
        ),
        format!(
            r#"device.driver == "{GPU}" && device.capacity["{GPU}"].memory.compareTo(quantity("2Gi")) >= 0"#
        ),
        format!(r#"device.driver != "{GPU}" || device.capacity["{GPU}"].memory.isLessThan(quantity("3Gi"))"#),
        format!(
            r#""driverVersion" in device.attributes["{GPU}"] && device.attributes["{GPU}"].driverVersion.isGreaterThan(semver("1.1.0"))"#
        ),
        format!(r#"device.attributes["{GPU}"].exists(name, name == "profile")"#),
        format!(r#"["a", "c"].exists(kind, device.attributes["{GPU}"].?kind.orValue("") == kind)"#),
        "!device.allowMultipleAllocations".to_owned(),
        format!(r#"device.attributes[?"{GPU}"].?link.orValue("l0") == "l0""#),
        format!(
            r#"device.attributes.?absent.?x.hasValue() || device.attributes["{GPU}"].?gpu.orValue(0) == 0"#
        ),
    ];
    if failing {
        selectors.push(format!(r#"device.attributes["{GPU}"].link == "l0""#));
        selectors.push(format!(r#"device.attributes["{GPU}"].driverVersion.isLessThan(semver("2.0.0"))"#));
        selectors.push(format!(r#"device.capacity["{NIC}"].memory.compareTo(quantity("2Gi")) > 0"#));
        selectors.push(format!(r#"device.attributes["{GPU}"].kind"#));
    }
    selectors
}
