//! Answers of the inventory and of the scheduler to a state, and where the two differ.
use k8s_openapi::api::resource::v1::ExactDeviceRequest;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_inventory::scheduler::{Features, Held, Outcome, Scheduler};
use sluice_inventory::{Cluster, free_slices, nodes_named};

use crate::state::State;

/// Number of devices that the inventory tries before it gives up: more than the scheduler's code tries in its time.
const STEPS: u32 = 2_000_000;

/// Answer of one side to a state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    /// Answer for each node, by the node's name.
    pub nodes: BTreeMap<String, OnNode>,
    /// Number of such pods that fit one after another, at most the state's limit.
    pub more: u32,
    /// Whether the search took too long; then the other fields mean nothing.
    pub gave_up: bool,
    /// Reason why counting was aborted.
    pub error: Option<String>,
    /// Reason why the state is not valid: the API server would refuse such objects.
    pub unreadable: Option<String>,
}

/// The answer for one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct OnNode {
    /// Whether the pod fits on the node.
    pub fits: bool,
    devices: Vec<Device>,
    /// Reason why the attempt was aborted, on all nodes.
    error: Option<String>,
}

/// A device that a claim gets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Device {
    claim: usize,
    request: String,
    /// `driver|pool|device`.
    device: String,
}

impl Answer {
    /// Returns the inventory's answer to a state.
    pub fn of(state: &State) -> Self {
        let features = Features::NEWEST;
        let scheduler = Scheduler { features, slices: &state.slices, classes: &state.classes, steps: STEPS };
        let mut answer = Self::default();
        let pod = match scheduler.pod(&state.want) {
            Ok(pod) => pod,
            Err(aborted) => {
                let on_node = OnNode { error: Some(aborted.to_string()), ..OnNode::default() };
                let names = state.nodes.iter().filter_map(|node| node.metadata.name.clone());
                answer.nodes = names.map(|name| (name, on_node.clone())).collect();
                answer.error = on_node.error.filter(|_| state.limit > 0 && !state.nodes.is_empty());
                return answer;
            }
        };
        let mut held = Held::of(features, &state.claims);
        for node in &state.nodes {
            let mut on_node = OnNode::default();
            match pod.on_node(node, &held) {
                Ok(Outcome::Undecided) => answer.gave_up = true,
                Ok(Outcome::NoFit) => {}
                Ok(Outcome::Fits(devices)) => {
                    on_node.fits = true;
                    let devices = devices.into_iter().map(|chosen| Device {
                        claim: chosen.claim,
                        request: chosen.request,
                        device: format!("{}|{}|{}", chosen.device.0, chosen.device.1, chosen.device.2),
                    });
                    on_node.devices = devices.collect();
                }
                Err(aborted) => on_node.error = Some(aborted.to_string()),
            }
            answer.nodes.insert(node.metadata.name.clone().unwrap_or_default(), on_node);
        }
        for node in &state.nodes {
            while answer.more < state.limit {
                match pod.on_node(node, &held) {
                    Ok(Outcome::Fits(devices)) => held.add(&devices),
                    Ok(Outcome::NoFit) => break,
                    Ok(Outcome::Undecided) => {
                        answer.gave_up = true;
                        return answer;
                    }
                    Err(aborted) => {
                        answer.error = Some(aborted.to_string());
                        return answer;
                    }
                }
                answer.more += 1;
            }
        }
        answer
    }

    /// Returns how many more claims of a class fit, by the count that the autoscaler uses. Returns `None` where the
    /// state asks for anything else than one device of a class, or where nothing can be counted.
    pub fn counted(state: &State) -> Option<u32> {
        let [claim] = state.want.as_slice() else { return None };
        let devices = claim.spec.devices.as_ref()?;
        let [request] = devices.requests.as_deref()? else { return None };
        let exactly = request.exactly.as_ref()?;
        let of_class = ExactDeviceRequest {
            device_class_name: exactly.device_class_name.clone(),
            allocation_mode: Some("ExactCount".to_owned()),
            count: Some(1),
            ..ExactDeviceRequest::default()
        };
        if *exactly != of_class
            || devices.constraints.as_ref().is_some_and(|constraints| !constraints.is_empty())
        {
            return None;
        }
        let is_absent =
            |name: &String| state.nodes.iter().all(|node| node.metadata.name.as_ref() != Some(name));
        let cluster = Cluster {
            slices: state.slices.clone(),
            claims: state.claims.clone(),
            device_classes: state.classes.clone(),
            unschedulable_nodes: nodes_named(&state.slices).into_iter().filter(is_absent).collect(),
        };
        free_slices(&cluster, &exactly.device_class_name, &[], state.limit).ok().map(|free| free.free)
    }

    /// Returns where the two differ; `None` where they agree. Of aborted attempts only the fact is compared, not the
    /// text.
    pub fn differs_from(&self, theirs: &Self) -> Option<String> {
        for (node, theirs) in &theirs.nodes {
            let ours = self.nodes.get(node).cloned().unwrap_or_default();
            let same = ours.fits == theirs.fits
                && ours.devices == theirs.devices
                && ours.error.is_some() == theirs.error.is_some();
            if !same {
                return Some(format!("node {node}: the scheduler says {theirs:?}, the inventory {ours:?}"));
            }
        }
        if (self.more, self.error.is_some()) != (theirs.more, theirs.error.is_some()) {
            return Some(format!(
                "the scheduler places {} more ({:?}), the inventory {} ({:?})",
                theirs.more, theirs.error, self.more, self.error
            ));
        }
        None
    }
}
