//! Runs scenarios as tests, one after the other, inside a cluster's namespaces, and keeps evidence of those that fail.

pub(crate) mod evidence;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::cli::{LoadKind, ScenarioFlags};
use crate::cluster::Cluster;
use crate::scenarios::{self, Namespace, Scenario};
use crate::workdir::Workdir;

/// Time limit of one scenario.
const SCENARIO_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Prints the names of the scenarios that the flags choose.
pub(crate) fn list(flags: &ScenarioFlags) {
    for scenario in chosen(flags) {
        println!("{}", scenario.name);
    }
}

/// Returns the scenarios that `--core` and `--load` select.
fn chosen(flags: &ScenarioFlags) -> impl Iterator<Item = Scenario> {
    let (core_only, load) = (flags.core, flags.load);
    scenarios::all().into_iter().filter(move |scenario| {
        (scenario.is_core || !core_only)
            && load.is_none_or(|load| scenario.is_heavy == (load == LoadKind::Heavy))
    })
}

/// Runs the scenarios that the flags choose. Must be called inside the namespaces.
///
/// # Errors
/// When the cluster cannot be reached at all.
pub(crate) fn run(workdir: &Workdir, flags: &ScenarioFlags) -> Result<ExitCode> {
    let runtime = Arc::new(tokio::runtime::Runtime::new().context("tokio")?);
    let cluster = runtime.block_on(Cluster::connect(workdir.clone()))?;
    let spec = workdir.spec()?;
    let times = Arc::new(Mutex::new(Vec::new()));
    let trial = |scenario: Scenario| {
        let lacking = [
            (scenario.needs_model_server && spec.model_server.is_none(), "--model-server"),
            (scenario.needs_network_policies && !spec.network_policies, "--network-policies"),
        ];
        let lacking = lacking.into_iter().find_map(|(lacks, flag)| lacks.then_some(flag));
        if let Some(flag) = lacking {
            println!("ignored, for it needs a cluster of `up {flag}`: {}", scenario.name);
        }
        let (runtime, cluster, times) = (Arc::clone(&runtime), cluster.clone(), Arc::clone(&times));
        let attempts = flags.flake_attempts;
        Trial::test(scenario.name, move || {
            let start = Instant::now();
            let result = runtime.block_on(attempt(&scenario, &cluster, attempts)).map_err(failed);
            times.lock().unwrap_or_else(PoisonError::into_inner).push((start.elapsed(), scenario.name));
            result
        })
        .with_ignored_flag(lacking.is_some())
    };
    let trials = chosen(flags).map(trial).collect();
    // Scenarios share the node, so they run one at a time.
    let arguments = Arguments {
        filter: flags.filter.clone(),
        list: flags.list,
        test_threads: Some(1),
        ..Arguments::default()
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    println!("how long each took:");
    for (elapsed, name) in times.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("{:8.1} s  {name}", elapsed.as_secs_f64());
    }
    Ok(conclusion.exit_code())
}

/// Makes this process ignore Ctrl-C, which then ends only the processes that it waits for.
///
/// # Errors
/// When signals cannot be handled here.
pub(crate) fn ignore_interrupts() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async {
        // The first call replaces the signal's default action for the rest of the process's life.
        while tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("interrupted: the cluster is taken away");
        }
    });
    Ok(runtime)
}

/// Runs a scenario up to `attempts` times, and returns the first success or the last failure. Earlier failures are
/// printed, so that they are not overlooked.
async fn attempt(scenario: &Scenario, cluster: &Cluster, attempts: u8) -> Result<()> {
    for number in 1..attempts {
        let name = format!("{} (attempt {number})", scenario.name);
        match run_one(scenario, &name, cluster).await {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("\nFLAKE? {name}: {error:#}"),
        }
    }
    run_one(scenario, scenario.name, cluster).await
}

async fn run_one(scenario: &Scenario, name: &str, cluster: &Cluster) -> Result<()> {
    // Runs as a task, so that a panic is a failure of which evidence is kept.
    let task = tokio::spawn((scenario.run)(cluster.clone()));
    let abort = task.abort_handle();
    let result = match tokio::time::timeout(SCENARIO_WITHIN, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(anyhow!("{panic}")),
        Err(_) => {
            abort.abort();
            Err(anyhow!("it took longer than {} s", SCENARIO_WITHIN.as_secs()))
        }
    };
    let Err(error) = result else { return Ok(()) };
    let error = evidence::keep(cluster, name, error).await;
    // Objects that it has left would disturb the next scenario.
    Err(match Namespace::remove_all(cluster).await {
        Ok(()) => error,
        Err(other) => error.context(format!("its namespace stays: {other:#}")),
    })
}

fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(load: Option<LoadKind>) -> Vec<&'static str> {
        let flags = ScenarioFlags { filter: None, flake_attempts: 1, core: false, load, list: false };
        chosen(&flags).map(|scenario| scenario.name).collect()
    }

    #[test]
    fn two_clusters_share_all_scenarios_by_their_load() {
        let (heavy, light) = (names(Some(LoadKind::Heavy)), names(Some(LoadKind::Light)));
        assert!(!heavy.is_empty() && !light.is_empty());
        assert!(heavy.iter().all(|name| !light.contains(name)));
        assert_eq!(heavy.len() + light.len(), names(None).len());
    }
}
