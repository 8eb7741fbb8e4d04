//! Other programs on the node that allocate or partition its GPUs without regard to this driver's claims.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::store::Store;

/// Period of the check.
const LOOK: Duration = Duration::from_secs(60);

/// Name of NVIDIA's DRA driver for GPUs.
const NVIDIA_DRA_DRIVER: &str = "gpu.nvidia.com";

/// Other program that uses the node's GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Neighbour {
    /// NVIDIA's device plugin, or a similar one.
    DevicePlugin,
    /// NVIDIA's MIG manager.
    MigManager,
    /// NVIDIA's DRA driver.
    DraDriver,
}

impl Neighbour {
    pub(crate) const ALL: [Self; 3] = [Self::DevicePlugin, Self::MigManager, Self::DraDriver];

    /// Returns the value of the metric's label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DevicePlugin => "device-plugin",
            Self::MigManager => "mig-manager",
            Self::DraDriver => "nvidia-dra-driver",
        }
    }

    /// Returns what the program does, and what to do about it.
    fn advice(self) -> &'static str {
        match self {
            Self::DevicePlugin => {
                "a device plugin offers this node's GPUs as well (nvidia.com/gpu or nvidia.com/mig-…), so one GPU can \
                 be given to two pods; keep it off the node (label nvidia.com/gpu.deploy.device-plugin=false)"
            }
            Self::MigManager => {
                "NVIDIA's MIG manager cuts this node's GPUs (label nvidia.com/mig.config) and destroys instances of \
                 claims; keep it off the node (label nvidia.com/gpu.deploy.mig-manager=false) and remove the label"
            }
            Self::DraDriver => {
                "NVIDIA's DRA driver (gpu.nvidia.com) offers this node's GPUs as well, so one GPU can be given to two \
                 pods; keep it off the node"
            }
        }
    }
}

/// Returns the neighbours on the node. `has_nvidia_slices` says whether NVIDIA's DRA driver publishes devices of the
/// node.
pub(crate) fn seen(node: Option<&Node>, has_nvidia_slices: bool) -> BTreeSet<Neighbour> {
    let mut seen = BTreeSet::new();
    let labels = node.and_then(|node| node.metadata.labels.as_ref());
    let label = |name: &str| labels.and_then(|labels| labels.get(name)).map(String::as_str);
    let allocatable = node.and_then(|node| node.status.as_ref()?.allocatable.as_ref()).into_iter().flatten();
    // The resources of a device plugin that is gone stay in the list with the quantity 0.
    let mut offered = allocatable.filter(|(_, quantity)| quantity.0 != "0").map(|(name, _)| name.as_str());
    if offered.any(|name| name.starts_with("nvidia.com/gpu") || name.starts_with("nvidia.com/mig-")) {
        seen.insert(Neighbour::DevicePlugin);
    }
    let is_kept_off = label("nvidia.com/gpu.deploy.mig-manager") == Some("false");
    if label("nvidia.com/mig.config").is_some() && !is_kept_off {
        seen.insert(Neighbour::MigManager);
    }
    if has_nvidia_slices {
        seen.insert(Neighbour::DraDriver);
    }
    seen
}

/// Checks for neighbours until `stop`, logs changes and sets the metric.
pub(crate) async fn watch(store: Arc<dyn Store>, node: String, stop: CancellationToken) {
    let mut known = BTreeSet::new();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = stop.cancelled() => return,
        }
        let object = tokio::select! {
            object = async { (store.node(&node).await, store.slices(NVIDIA_DRA_DRIVER, &node).await) } => object,
            () = stop.cancelled() => return,
        };
        let (object, slices) = match object {
            (Ok(object), Ok(slices)) => (object, slices),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%error, "Failed to check for other programs that allocate the node's GPUs.");
                continue;
            }
        };
        let has_devices =
            slices.iter().any(|slice| slice.spec.devices.as_ref().is_some_and(|d| !d.is_empty()));
        let now = seen(object.as_ref(), has_devices);
        for neighbour in now.difference(&known) {
            tracing::warn!(
                neighbour = neighbour.name(),
                "Another program uses this node's GPUs: {}.",
                neighbour.advice()
            );
        }
        for neighbour in known.difference(&now) {
            tracing::info!(neighbour = neighbour.name(), "Another program no longer uses this node's GPUs.");
        }
        metrics::export_neighbours(
            Neighbour::ALL.iter().map(|neighbour| (neighbour.name(), now.contains(neighbour))),
        );
        known = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(labels: serde_json::Value, allocatable: serde_json::Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"labels": labels}, "status": {"allocatable": allocatable}}),
        )
        .unwrap()
    }

    #[test]
    fn whoever_offers_or_cuts_the_gpus_is_seen_and_whoever_is_kept_off_is_not() {
        let of = |labels, allocatable| seen(Some(&node(labels, allocatable)), false);
        let one = |neighbour| BTreeSet::from([neighbour]);
        assert_eq!(of(json!({}), json!({"nvidia.com/gpu": "8"})), one(Neighbour::DevicePlugin));
        assert_eq!(of(json!({}), json!({"nvidia.com/mig-1g.5gb": "7"})), one(Neighbour::DevicePlugin));
        assert_eq!(
            of(json!({"nvidia.com/mig.config": "all-balanced"}), json!({})),
            one(Neighbour::MigManager)
        );
        let off =
            json!({"nvidia.com/mig.config": "all-disabled", "nvidia.com/gpu.deploy.mig-manager": "false"});
        assert_eq!(of(off, json!({"nvidia.com/gpu": "0", "cpu": "4"})), BTreeSet::new());
        assert_eq!(seen(None, true), one(Neighbour::DraDriver));
    }
}
