//! Benchmarks of the whole loop on a real Kubernetes (the command `figures`), measured by watching the API server:
//! how long a gate stays after its slice became free, how long replicas take to follow a step of the load,
//! where the time from none to one replica goes, and how long a pod waits whose prepare was cut off by a kill.
//!
//! GPUs and inference are simulated: what is measured is everything around them.

mod killed;
mod lift;
mod spread;
mod start;
mod step;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::{Figure, FiguresFlags};
use crate::cluster::Cluster;
use crate::workdir::Workdir;

pub(crate) use spread::Spread;

/// Runs the benchmarks that the flags choose, prints the results, and writes them to the JSON file if one is named. Must
/// be called inside the namespaces.
///
/// # Errors
/// When a measurement does not end in time.
pub(crate) async fn run(workdir: &Workdir, flags: &FiguresFlags) -> Result<()> {
    let cluster = Cluster::connect(workdir.clone()).await?;
    let rounds = usize::from(flags.rounds);
    let is_wanted = |figure| flags.only.is_none_or(|only| only == figure);
    let mut all = serde_json::Map::new();
    if is_wanted(Figure::Gates) {
        let lift = lift::measure(&cluster, rounds).await.context("gates")?;
        println!("| from a free slice to | ms: min | median | max |\n|---|---|---|---|");
        println!("| the gate of the next of {} pods is gone | {lift} |", lift::GATED);
        all.insert("gatedPods".to_owned(), json!(lift::GATED));
        all.insert("liftMs".to_owned(), json!(lift));
    }
    if is_wanted(Figure::Step) {
        let step = step::measure(&cluster, rounds).await.context("step of the load")?;
        println!("\n| from a step of the load to | ms: min | median | max |\n|---|---|---|---|");
        println!("| more replicas are asked for | {step} |");
        all.insert("stepToReplicasMs".to_owned(), json!(step));
    }
    if is_wanted(Figure::Start) {
        let phases = start::measure(&cluster, rounds).await.context("none to one")?;
        all.insert("noneToOneMs".to_owned(), print("from none to one: phase", &phases));
    }
    if is_wanted(Figure::Killed) {
        let killed = killed::measure(&cluster, rounds).await.context("killed in the midst of a prepare")?;
        all.insert("killedToRunningMs".to_owned(), print("until the pod runs, from", &killed));
    }
    if let Some(file) = &flags.json {
        std::fs::write(file, format!("{:#}\n", serde_json::Value::Object(all)))
            .with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Prints a table of named rows, and returns it as JSON.
fn print(title: &str, rows: &[(&'static str, Spread)]) -> serde_json::Value {
    println!("\n| {title} | ms: min | median | max |\n|---|---|---|---|");
    for (name, spread) in rows {
        println!("| {name} | {spread} |");
    }
    rows.iter().map(|(name, spread)| ((*name).to_owned(), json!(spread))).collect()
}
