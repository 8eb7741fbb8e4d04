//! Takes a cluster away, with all that is left of it.

use anyhow::{Result, bail};

use crate::host::leftovers::Leftovers;
use crate::workdir::Workdir;

/// Ends everything and removes every trace; also after somebody killed any part of it.
///
/// # Errors
/// Names what stays.
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
