//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::release::Minor;
use crate::workdir::Name;

/// Name of a cluster whose user names none.
pub const DEFAULT_NAME: &str = "e2e";

/// A real Kubernetes on one machine, with Sluice installed and simulated GPUs
#[derive(Debug, Parser)]
#[command(name = "sluice-testbed", version)]
pub struct Cli {
    /// Folder of Sluice's programs [default: where this program is]
    #[arg(long, global = true, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// Name of the cluster; several can live side by side
    #[arg(long, global = true, default_value = DEFAULT_NAME)]
    pub name: Name,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a cluster up, run all scenarios, take it away: what `cargo e2e` alone does
    All(AllFlags),
    /// Bring a cluster up and say how to use it
    Up(UpFlags),
    /// Take a cluster away, with all that is left of it
    Down,
    /// Run a command in a cluster's namespaces, with kubectl and its kubeconfig at hand
    Exec {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Show the processes of a cluster's control plane and node
    Status,
    /// End a process of the control plane or the node, and leave it ended
    Stop {
        /// Its name, as `status` shows it
        component: String,
    },
    /// Start a process that was stopped
    Start {
        /// Its name, as `status` shows it
        component: String,
    },
    /// Kill a process with SIGKILL; it is started again after a second
    Crash {
        /// Its name, as `status` shows it
        component: String,
    },
    /// Reboot the node: all its processes, containers, mounts and MIG instances go at once; the control plane stays
    Reboot,
    /// Import this tree's images again and restart what runs of them: after a rebuild
    Reload,
    /// Run scenarios in a cluster that is up
    Scenarios(ScenarioFlags),
    /// Measure the loop in a cluster that is up: gates, a step of the load, none to one
    Figures(FiguresFlags),
    /// (the first process of a cluster)
    #[command(hide = true)]
    Node,
    /// (tells Prometheus where the pods are)
    #[command(hide = true)]
    Discover,
    /// (the part of `up` that runs inside)
    #[command(hide = true)]
    Provision,
    /// (the part of `reload` that runs inside)
    #[command(hide = true)]
    ReloadInside,
    /// (the part of `reboot` that runs inside)
    #[command(hide = true)]
    RebootInside,
    /// (the part of `figures` that runs inside)
    #[command(hide = true)]
    FiguresInside(FiguresFlags),
    /// (the part of `scenarios` that runs inside)
    #[command(hide = true)]
    ScenariosInside(ScenarioFlags),
}

/// What a cluster shall be.
#[derive(Debug, Clone, Args)]
pub struct UpFlags {
    /// Kubernetes release
    #[arg(long, value_name = "1.NN", default_value_t = Minor::NEWEST)]
    pub kubernetes: Minor,

    /// Folders with ready programs (kubelet, etcd, …); they come before PATH, the cache and a build
    #[arg(long, value_name = "DIR", value_delimiter = ':', env = "SLUICE_TESTBED_BINARIES")]
    pub binaries: Vec<PathBuf>,

    /// Simulated GPUs of the node, MIG mode on
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub gpus: usize,

    /// Their model
    #[arg(long, value_name = "MODEL", default_value = "A100-SXM4-40GB")]
    pub gpu_model: String,

    /// Simulated nodes beside the real one: pods there are only said to run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub kwok_nodes: usize,

    /// Run Prometheus too, with the settings in prometheus/ beside the manifests
    #[arg(long)]
    pub prometheus: bool,

    /// Enforce NetworkPolicies, with kube-router's policy controller
    #[arg(long)]
    pub network_policies: bool,

    /// Have an image of MLServer, for the scenarios of a model server that is not ours (a Python environment of
    /// 350 MB, kept in the cache)
    #[arg(long)]
    pub model_server: bool,

    /// Leave Sluice out
    #[arg(long)]
    pub no_install: bool,

    /// Kustomization to install [default: config/default of the repository]
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
}

/// How much load a scenario sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadKind {
    /// As much as the machine can serve, or more.
    Heavy,
    /// Little, or none.
    Light,
}

/// Which scenarios.
#[derive(Debug, Clone, Args)]
pub struct ScenarioFlags {
    /// Only scenarios whose name contains this
    pub filter: Option<String>,

    /// Times that a scenario may be tried on a machine where others run too; every failure is shown
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub flake_attempts: u8,

    /// Only those that show that the parts work together: claim, gate, sample
    #[arg(long)]
    pub core: bool,

    /// Only scenarios that fill the machine with load, or only the others: on two clusters side by side no two such
    /// loads meet
    #[arg(long, value_name = "KIND")]
    pub load: Option<LoadKind>,

    /// Only list them
    #[arg(long)]
    pub list: bool,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// From a free slice to the next pod's gate.
    Gates,
    /// From a step of the load to more replicas.
    Step,
    /// From no replica to the first answer.
    Start,
    /// From the kill of the driver or the kubelet in the midst of a prepare to the running pod.
    Killed,
}

/// How much is measured.
#[derive(Debug, Clone, Args)]
pub struct FiguresFlags {
    /// Measurements of each figure
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,

    /// Only this one
    #[arg(long, value_name = "FIGURE")]
    pub only: Option<Figure>,

    /// Write them as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Of `all`.
#[derive(Debug, Clone, Args)]
pub struct AllFlags {
    /// The cluster
    #[command(flatten)]
    pub up: UpFlags,

    /// The scenarios
    #[command(flatten)]
    pub scenarios: ScenarioFlags,

    /// Leave the cluster up
    #[arg(long)]
    pub keep: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_for_the_cluster_keeps_its_own_options() {
        let cli = Cli::parse_from(["x", "--bin-dir", "/b", "exec", "kubectl", "get", "--name", "pods", "-A"]);
        let Command::Exec { command } = cli.command else { panic!() };
        assert_eq!(command, ["kubectl", "get", "--name", "pods", "-A"]);
        assert_eq!(cli.name.to_string(), DEFAULT_NAME);
    }
}
