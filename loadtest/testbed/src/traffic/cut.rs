//! Cuts traffic between two addresses of the cluster.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

/// Number of cuts so far, so that each has a table of its own.
static CUTS: AtomicU32 = AtomicU32::new(0);

/// A cut, which lasts until it is dropped.
#[derive(Debug)]
pub(crate) struct Cut {
    table: String,
}

impl Cut {
    /// Drops packets from `from` to `to` (addresses of pods, Services or the node), of one TCP port or of all.
    /// Established connections hang, as when a cable is pulled.
    pub(crate) fn new(from: &str, to: &str, port: Option<u16>) -> Result<Self> {
        let number = CUTS.fetch_add(1, Ordering::Relaxed);
        let cut = Self { table: format!("sluice_cut_{}_{number}", std::process::id()) };
        nft(&rules(&cut.table, from, to, port))?;
        Ok(cut)
    }

    /// Ends the cut.
    pub(crate) fn end(self) -> Result<()> {
        let removed = nft(&remove(&self.table));
        std::mem::forget(self);
        removed
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = nft(&remove(&self.table));
    }
}

/// Returns the nftables rules of a cut. Packets between two pods cross a bridge, where only bridge rules apply; those
/// between pods and node, and to Services, are routed.
fn rules(table: &str, from: &str, to: &str, port: Option<u16>) -> String {
    let matched = format!("ip saddr {from} ip daddr {to}");
    let matched = port.map_or_else(|| matched.clone(), |port| format!("{matched} tcp dport {port}"));
    format!(
        "table bridge {table} {{\n\
         chain forward {{ type filter hook forward priority -200; {matched} drop; }}\n\
         }}\n\
         table inet {table} {{\n\
         chain before {{ type filter hook prerouting priority -200; {matched} drop; }}\n\
         chain output {{ type filter hook output priority -200; {matched} drop; }}\n\
         chain after {{ type filter hook forward priority -200; {matched} drop; }}\n\
         }}\n"
    )
}

fn remove(table: &str) -> String {
    format!("delete table bridge {table}\ndelete table inet {table}\n")
}

fn nft(script: &str) -> Result<()> {
    let output = Command::new("nft").arg(script).output().context("cannot start nft (Debian: nftables)")?;
    if !output.status.success() {
        bail!("nft: {}\n{script}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_names_both_addresses_and_the_port() {
        let rules = rules("t", "198.18.16.5", "198.18.16.6", Some(8081));
        assert_eq!(rules.matches("ip saddr 198.18.16.5 ip daddr 198.18.16.6 tcp dport 8081 drop").count(), 4);
    }
}
