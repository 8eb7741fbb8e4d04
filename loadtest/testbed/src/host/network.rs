//! Network namespace of a cluster: a bridge that holds the node's address, and one for pods.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::addresses::{NODE, PODS};
use crate::workdir::Workdir;

/// Bridge with the node's address. A bridge works on every kernel; dummy interfaces do not.
const NODE_BRIDGE: &str = "node0";
/// Bridge of the pods.
const POD_BRIDGE: &str = "pods0";

/// Sets up this process's own network namespace.
pub(crate) fn set_up() -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", NODE_BRIDGE, "type", "bridge"])?;
    ip(&["address", "add", &format!("{NODE}/32"), "dev", NODE_BRIDGE])?;
    ip(&["link", "set", NODE_BRIDGE, "up"])?;
    // The route leads nowhere, but without one the node could not send to a Service's address, which nftables then
    // rewrites.
    ip(&["route", "add", "default", "dev", NODE_BRIDGE])?;
    set("/proc/sys/net/ipv4/ip_forward")
}

/// Makes iptables rules, by which NetworkPolicies are enforced, apply to packets between pods on one bridge.
///
/// # Errors
/// When the kernel cannot do it.
pub(crate) fn filter_bridged() -> Result<()> {
    set("/proc/sys/net/bridge/bridge-nf-call-iptables")
}

fn set(setting: &str) -> Result<()> {
    fs::write(setting, "1").with_context(|| format!("cannot write {setting}"))
}

/// Returns the network configuration of pods, for containerd.
pub(crate) fn pod_network(workdir: &Workdir) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": POD_BRIDGE,
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": PODS }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": workdir.text("cni/leases"),
                },
            },
            { "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true } },
        ],
    })
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot start ip (Debian: iproute2)")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
