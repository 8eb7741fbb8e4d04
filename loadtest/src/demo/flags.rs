//! Flags of `sluice-loadtest demo`.

use std::path::PathBuf;

use super::kill::Kill;

/// Flags of the demo. [`crate::cli`] describes the command.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoFlags {
    /// Folder of the built programs; default: where this program lies.
    #[arg(long)]
    pub bin_dir: Option<PathBuf>,
    /// Settings to use instead of those that ship (loadtest/scenarios/demo.yaml).
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Only one arm, with N fixed replicas. How the two N of the comparison were found.
    #[arg(long = "static", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub fixed: Option<u32>,
    /// Only the autoscaled arm, without the comparison.
    #[arg(long, conflicts_with = "fixed")]
    pub alone: bool,
    /// Fail also when the objective is missed.
    #[arg(long)]
    pub strict: bool,
    /// SIGKILL for driver, autoscaler or model at a second of the autoscaled arm's run; may be repeated.
    #[arg(long, value_name = "PROGRAM@SECONDS", conflicts_with = "fixed")]
    pub kill: Vec<Kill>,
    /// Write the numbers as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where the HTML report goes; default: sluice-demo/report.html beside the folder of the programs.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Keep the run's folder with logs, journals, objects and decisions.
    #[arg(long)]
    pub keep: bool,
}
