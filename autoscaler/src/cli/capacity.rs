//! `kubectl sluice capacity`: free and used slices by pool and profile, with their holders.

use std::fmt::Write;

use sluice_inventory::{PoolCapacity, ProfileCapacity, capacity_table};
use sluice_process::printable::{printable, printable_json};

use super::ObjectSource;

/// Format of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Returns the output of `kubectl sluice capacity`.
pub fn capacity(source: &dyn ObjectSource, output: Output) -> anyhow::Result<String> {
    let pools = capacity_table(&source.cluster()?);
    match output {
        Output::Json => Ok(printable_json(&serde_json::to_string_pretty(&pools)?).into_owned()),
        Output::Table => Ok(table(&pools, source.hint())),
    }
}

fn table(pools: &[PoolCapacity], hint: &str) -> String {
    if pools.is_empty() {
        return format!("No slices are published; {hint}\n");
    }
    let mut rows = vec![["POOL", "PROFILE", "FREE", "IN USE", "HELD BY"].map(str::to_owned)];
    let mut unusable = String::new();
    for pool in pools {
        rows.extend(pool.profiles.iter().map(|profile| row(pool, profile)));
        if let Some(why) = &pool.unusable {
            let (pool, why) = (printable(&pool.pool), printable(why));
            let _ = writeln!(unusable, "Nothing can be allocated from pool {pool}: {why}");
        }
    }
    format!(
        "{}{unusable}FREE is how many more of this profile fit if nothing else comes; profiles share GPUs, so do not add them up.\n",
        aligned(&rows)
    )
}

fn row(pool: &PoolCapacity, profile: &ProfileCapacity) -> [String; 5] {
    let holders: Vec<String> =
        profile.holders.iter().map(|holder| format!("{} ({})", holder.claim, holder.device)).collect();
    let holders = if holders.is_empty() { "-".to_owned() } else { holders.join(", ") };
    let free = if pool.unusable.is_some() { "?".to_owned() } else { profile.free.to_string() };
    [pool.pool.clone(), profile.profile.clone(), free, profile.in_use.to_string(), holders]
}

/// Formats rows in aligned columns. Cells come from objects, so control characters in them are escaped.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| std::array::from_fn(|cell| printable(&row[cell]).into_owned())).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == N {
                let _ = writeln!(text, "{cell}");
            } else {
                let _ = write!(text, "{cell:<width$}   ", width = widths[column]);
            }
        }
    }
    text
}
