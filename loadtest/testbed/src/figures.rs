//! Figures of the whole loop on a real Kubernetes, each measured from outside by watching the API server:
//! how long a gate stays after its slice became free, how long replicas take to follow a step of the load, and
//! where the time from none to one replica goes.
//!
//! GPUs and inference are simulated: what is measured is everything around them.

mod lift;
mod spread;
mod start;
mod step;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::FiguresFlags;
use crate::cluster::Cluster;
use crate::workdir::Workdir;

pub use spread::Spread;

/// Measures, prints, and writes the JSON file where one is asked for. Inside the namespaces.
///
/// # Errors
/// When something does not come to an end in time: then there is no figure.
pub async fn run(workdir: &Workdir, flags: &FiguresFlags) -> Result<()> {
    let cluster = Cluster::connect(workdir.clone()).await?;
    let rounds = usize::from(flags.rounds);
    let lift = lift::measure(&cluster, rounds).await.context("gates")?;
    println!("| from a free slice to | ms: min | median | max |\n|---|---|---|---|");
    println!("| the gate of the next of {} pods is gone | {lift} |", lift::GATED);
    let step = step::measure(&cluster, rounds).await.context("step of the load")?;
    println!("\n| from a step of the load to | ms: min | median | max |\n|---|---|---|---|");
    println!("| more replicas are asked for | {step} |");
    let phases = start::measure(&cluster, rounds).await.context("none to one")?;
    println!("\n| from none to one: phase | ms: min | median | max |\n|---|---|---|---|");
    for (phase, spread) in &phases {
        println!("| {phase} | {spread} |");
    }
    if let Some(file) = &flags.json {
        let phases: serde_json::Map<_, _> =
            phases.iter().map(|(phase, spread)| ((*phase).to_owned(), json!(spread))).collect();
        let all = json!({ "gatedPods": lift::GATED, "liftMs": lift, "stepToReplicasMs": step, "noneToOneMs": phases });
        std::fs::write(file, format!("{all:#}\n")).with_context(|| file.display().to_string())?;
    }
    Ok(())
}
