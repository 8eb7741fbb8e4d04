//! Random clusters: nodes, pools with their devices and counters, DeviceClasses, and claims that hold devices.
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use crate::classes::Mix;
use sluice_inventory_oracle::state::State;

pub(crate) const GPU: &str = "gpu.example";
pub(crate) const NIC: &str = "nic.example";

/// Parts of a partitioned GPU: profile, number of parts, and memory and engines that one part takes.
const PARTITIONS: [(&str, usize, u32, u32); 3] = [("full", 1, 4, 2), ("half", 2, 2, 1), ("quarter", 4, 1, 0)];

/// Makes a cluster. The caller adds the claims that are wanted and the limit.
pub(crate) fn make(mix: &Mix, random: &mut SmallRng) -> State {
    let mut state = State::default();
    let nodes: Vec<String> = (0..random.random_range(1..=3)).map(|n| format!("n{n}")).collect();
    for (n, name) in nodes.iter().enumerate() {
        let zone = ["a", "b"].choose(random).unwrap_or(&"a");
        let labels = json!({"zone": zone, "rank": n.to_string()});
        state.nodes.push(read(json!({"metadata": {"name": name, "labels": labels}})));
    }
    let mut slices = Vec::new();
    for node in &nodes {
        if random.random_bool(0.85) {
            let on = json!({"nodeName": node});
            slices.extend(pool(mix, random, GPU, &format!("{node}-gpu"), &on));
        }
        if random.random_bool(0.5) {
            slices.extend(pool(
                &Mix { partitions: 0.0, ..*mix },
                random,
                NIC,
                node,
                &json!({"nodeName": node}),
            ));
        }
    }
    if random.random_bool(mix.placed) {
        let on = placement(random, &nodes);
        slices.extend(pool(mix, random, GPU, "a-fabric", &on));
        if random.random_bool(0.5) {
            let on = placement(random, &nodes);
            slices.extend(pool(&Mix { partitions: 0.0, ..*mix }, random, NIC, "shelf", &on));
        }
    }
    hold(mix, random, &slices, &mut state);
    // The API server lists by name; the scheduler's cache has no order.
    slices.sort_by_key(|_| random.random::<u32>());
    state.slices = slices.into_iter().map(read).collect();
    state.classes = classes(mix);
    state
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the value is written as an object of the API")
}

fn placement(random: &mut SmallRng, nodes: &[String]) -> Value {
    let by_label = |key: &str, operator: &str, values: Value| json!({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}});
    match random.random_range(0..7) {
        0 => json!({"allNodes": true}),
        1 => by_label("zone", "In", json!(["a"])),
        2 => by_label("zone", "NotIn", json!(["a", "c"])),
        3 => by_label("rank", "Gt", json!(["0"])),
        4 => json!({"nodeSelector": {"nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": [nodes.choose(random)]}]}]}}),
        5 => by_label("zone", "Exists", Value::Null),
        _ => json!({"perDeviceNodeSelection": true}),
    }
}

/// Makes the slices of a pool that is for the nodes named by `on`.
fn pool(mix: &Mix, random: &mut SmallRng, driver: &str, name: &str, on: &Value) -> Vec<Value> {
    let per_device = on.get("perDeviceNodeSelection").is_some();
    let mut counters = Vec::new();
    let mut devices = Vec::new();
    if random.random_bool(mix.partitions) {
        for gpu in 0..random.random_range(1..=2) {
            counters.push(json!({"name": format!("gpu-{gpu}"), "counters": {"memory": {"value": "4Gi"}, "engines": {"value": "2"}}}));
            let kind = ["a", "b"].choose(random).unwrap_or(&"a");
            let numa = random.random_range(0..2);
            for (profile, parts, memory, engines) in PARTITIONS {
                for part in 0..parts {
                    let mut device = json!({
                        "name": format!("gpu-{gpu}-{profile}-{part}"),
                        "attributes": {
                            "kind": {"string": kind}, "profile": {"string": profile}, "gpu": {"int": gpu},
                            "numa.example/node": {"int": numa}, "ready": {"bool": part == 0},
                        },
                        "capacity": {"memory": {"value": format!("{memory}Gi")}},
                        "consumesCounters": [{"counterSet": format!("gpu-{gpu}"), "counters":
                            {"memory": {"value": format!("{memory}Gi")}, "engines": {"value": engines.to_string()}}}],
                    });
                    dress(mix, random, &mut device);
                    devices.push(device);
                }
            }
        }
    } else {
        for n in 0..random.random_range(1..=5) {
            let version = ["1.0.0", "1.2.0", "2.0.0"].choose(random).unwrap_or(&"1.0.0");
            let kind = ["a", "b"].choose(random);
            let mut attributes = json!({
                "kind": {"string": kind}, "numa.example/node": {"int": random.random_range(0..2)},
                "driverVersion": {"version": version}, "ready": {"bool": random.random_bool(0.7)},
            });
            if random.random_bool(0.6) {
                attributes["link"] = json!({"string": format!("l{}", random.random_range(0..2))});
            }
            let mut device = json!({
                "name": format!("dev-{n}"), "attributes": attributes,
                "capacity": {"memory": {"value": format!("{}Gi", random.random_range(1..=8))}},
            });
            dress(mix, random, &mut device);
            devices.push(device);
        }
    }
    if per_device {
        for device in &mut devices {
            let own = match random.random_range(0..3) {
                0 => json!({"nodeName": format!("n{}", random.random_range(0..3))}),
                1 => json!({"allNodes": true}),
                _ => json!({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "zone", "operator": "In", "values": ["b"]}]}]}}),
            };
            merge(device, &own);
        }
    }
    let mut parts = Vec::new();
    if !counters.is_empty() {
        parts.push(json!({"sharedCounters": counters}));
    }
    let cut = if devices.len() > 2 && random.random_bool(0.4) {
        random.random_range(1..devices.len())
    } else {
        devices.len()
    };
    let rest = devices.split_off(cut);
    parts.push(json!({"devices": devices}));
    if !rest.is_empty() {
        parts.push(json!({"devices": rest}));
    }
    let generation = random.random_range(1..4);
    let mut slices: Vec<Value> = Vec::new();
    let count = parts.len();
    for mut spec in parts {
        merge(&mut spec, on);
        merge(
            &mut spec,
            &json!({"driver": driver, "pool": {"name": name, "generation": generation, "resourceSliceCount": count}}),
        );
        let suffix: u32 = random.random();
        slices.push(json!({"metadata": {"name": format!("{driver}-{name}-{suffix:08x}")}, "spec": spec}));
    }
    if random.random_bool(mix.broken) {
        break_pool(random, &mut slices);
    }
    slices
}

/// Makes a pool incomplete, stale or contradictory.
fn break_pool(random: &mut SmallRng, slices: &mut Vec<Value>) {
    let last = slices.len() - 1;
    match random.random_range(0..6) {
        0 => {
            slices.remove(random.random_range(0..=last));
        }
        1 => {
            let mut stale = slices[last].clone();
            stale["metadata"]["name"] = json!("stale");
            stale["spec"]["pool"]["generation"] = json!(0);
            slices.push(stale);
        }
        2 => {
            // A newer generation has begun, on another node.
            let mut newer = slices[last].clone();
            newer["metadata"]["name"] = json!("newer");
            newer["spec"]["pool"]["generation"] = json!(9);
            newer["spec"]["nodeName"] = json!("elsewhere");
            slices.push(newer);
        }
        3 => {
            if let Some(devices) = slices[last]["spec"]["devices"].as_array_mut()
                && let Some(first) = devices.first().cloned()
            {
                devices.push(first);
            }
        }
        4 => {
            if let Some(device) = slices[last]["spec"]["devices"].get_mut(0) {
                device["consumesCounters"] =
                    json!([{"counterSet": "absent", "counters": {"memory": {"value": "1"}}}]);
            }
        }
        _ => {
            for slice in slices {
                slice["spec"]["pool"]["resourceSliceCount"] = json!(7);
            }
        }
    }
}

/// Gives a device taints, binding conditions, shares and capacity policies, by the chances of the mix.
fn dress(mix: &Mix, random: &mut SmallRng, device: &mut Value) {
    if random.random_bool(mix.taints) {
        let effect = ["NoSchedule", "NoExecute", "None"].choose(random);
        let (key, value) = (["worn", "lent"].choose(random), ["x", "y"].choose(random));
        device["taints"] = json!([{"key": key, "value": value, "effect": effect}]);
    }
    if random.random_bool(mix.binding) {
        device["bindingConditions"] = json!(["attached"]);
        device["bindingFailureConditions"] = json!(["failed"]);
        device["bindsToNode"] = json!(random.random_bool(0.5));
    }
    if random.random_bool(mix.shareable) {
        device["allowMultipleAllocations"] = json!(true);
        if random.random_bool(0.3) {
            device["capacity"]["bandwidth"] = json!({"value": "1500m"});
        }
    }
    if random.random_bool(mix.capacity_policies) {
        let policy = match random.random_range(0..5) {
            0 => json!({"default": "1Gi"}),
            1 => json!({"default": "1Gi", "validValues": ["1Gi", "2Gi", "4Gi"]}),
            2 => json!({"default": "512Mi", "validRange": {"min": "512Mi", "max": "4Gi", "step": "512Mi"}}),
            3 => json!({"default": "1Gi", "validRange": {"min": "1Gi"}}),
            _ => json!({"default": "1500m", "validRange": {"min": "500m", "step": "250m"}}),
        };
        device["capacity"]["memory"]["requestPolicy"] = policy;
    }
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

/// Adds claims that hold devices of the cluster, and a few that are not published.
fn hold(mix: &Mix, random: &mut SmallRng, slices: &[Value], state: &mut State) {
    let mut drawn: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for slice in slices {
        let spec = &slice["spec"];
        for device in spec["devices"].as_array().into_iter().flatten() {
            if !random.random_bool(mix.held.min(1.0)) {
                continue;
            }
            let pool = format!("{}/{}", spec["driver"], spec["pool"]["name"]);
            if let Some(draws) = device["consumesCounters"].get(0) {
                let set = draws["counterSet"].to_string();
                let amount = |counter: &str| {
                    let text = draws["counters"][counter]["value"].as_str().unwrap_or("0");
                    text.trim_end_matches("Gi").parse::<u64>().unwrap_or(0)
                };
                let used = drawn.entry((pool, set)).or_default();
                let next = (used.0 + amount("memory"), used.1 + amount("engines"));
                if !mix.over_commit && (next.0 > 4 || next.1 > 2) {
                    continue;
                }
                *used = next;
            }
            let mut result = json!({
                "request": "held", "driver": spec["driver"], "pool": spec["pool"]["name"], "device": device["name"],
            });
            if device["allowMultipleAllocations"] == json!(true) {
                result["shareID"] = json!(format!("00000000-0000-0000-0000-{:012x}", random.random::<u32>()));
                if random.random_bool(0.8) {
                    let amounts = ["512Mi", "1Gi", "2Gi"];
                    result["consumedCapacity"] = json!({"memory": amounts.choose(random)});
                }
            } else if random.random_bool(mix.admin) {
                result["adminAccess"] = json!(true);
            }
            let name = format!("held-{}", state.claims.len());
            state.claims.push(read(json!({
                "metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {},
                "status": {"allocation": {"devices": {"results": [result]}}},
            })));
        }
    }
}

fn classes<T: serde::de::DeserializeOwned>(mix: &Mix) -> Vec<T> {
    let profile = |profile: &str| {
        format!(
            r#"device.driver == "{GPU}" && "profile" in device.attributes["{GPU}"] && device.attributes["{GPU}"].profile == "{profile}""#
        )
    };
    let mut classes = Map::new();
    classes.insert("any".to_owned(), Value::Null);
    classes.insert("gpu".to_owned(), json!(format!(r#"device.driver == "{GPU}""#)));
    classes.insert("nic".to_owned(), json!(format!(r#"device.driver == "{NIC}""#)));
    for name in ["full", "half", "quarter"] {
        classes.insert(name.to_owned(), json!(profile(name)));
    }
    if mix.failing {
        classes.insert("kind-a".to_owned(), json!(format!(r#"device.attributes["{GPU}"].kind == "a""#)));
        classes.insert("linked".to_owned(), json!(format!(r#"device.attributes["{GPU}"].link == "l0""#)));
    }
    let class = |(name, expression): (String, Value)| {
        let selectors = expression.as_str().map(|expression| json!([{"cel": {"expression": expression}}]));
        read(json!({"metadata": {"name": name}, "spec": {"selectors": selectors}}))
    };
    classes.into_iter().map(class).collect()
}
