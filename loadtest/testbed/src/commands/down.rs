//! Removes a cluster with everything that is left of it.

use anyhow::{Result, bail};

use crate::host::leftovers::Leftovers;
use crate::workdir::Workdir;

/// Ends all processes of a cluster and removes every trace of it, even after parts of it were killed.
///
/// # Errors
/// With the leftover that could not be removed.
pub(crate) fn down(workdir: &Workdir) -> Result<()> {
    let found = Leftovers::of(workdir)?;
    if found.is_empty() {
        println!("nothing is there of cluster {}", workdir.name());
        return Ok(());
    }
    found.remove()?;
    let left = Leftovers::of(workdir)?;
    if !left.is_empty() {
        bail!("of cluster {} there still are {left}", workdir.name());
    }
    println!("cluster {} is gone: {found}", workdir.name());
    Ok(())
}
