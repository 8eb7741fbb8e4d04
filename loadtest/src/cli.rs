//! The command line.

use clap::{Parser, Subcommand};

use crate::{compare, demo, model, run};

/// Load, scenarios, reports and the reference model server
#[derive(Debug, Parser)]
#[command(name = "sluice-loadtest", version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the reference model (simulated inference)
    ///
    /// Speaks the Open Inference Protocol: REST JSON, REST binary and gRPC on one port. Inference is
    /// simulated: a batch takes (alpha + beta * rows), scaled by reference compute slices over the compute
    /// slices of the GPU slice that SLUICE_PROFILE names; without that variable it refuses to start. Row
    /// ids are echoed and y = 3x + (id mod 1024), so that mix-ups are seen.
    ///
    /// Example:
    ///
    ///   SLUICE_PROFILE=7g.80gb sluice-loadtest model --listen 127.0.0.1:9000 --alpha-ms 2 --beta-ms 0.1
    ///
    ///   curl 127.0.0.1:9000/v2/models/reference
    #[command(verbatim_doc_comment)]
    Model(Box<model::settings::Flags>),

    /// Send load and report what became of it
    ///
    /// Open loop (--rate-rps, --steps, --ramp, --trace) sends by its schedule whatever the target does and
    /// counts latency from the intended time; --concurrency is a closed loop. Answers are checked row by
    /// row. It reports its own send lag and calls a run invalid when it was late itself.
    ///
    /// Examples:
    ///
    ///   sluice-loadtest run --target 127.0.0.1:8000 --rate-rps 300 --objective-ms 200 \
    ///       --threshold 'p99_ms<200' --threshold 'lost==0' --json report.json --html report.html
    ///
    ///   sluice-loadtest run --scenario loadtest/scenarios/mixed.yaml --rate-rps 500
    ///
    /// Exit codes: 0 all thresholds held, 1 a threshold was violated (or the target could not be reached),
    /// 2 the run is invalid, 64 wrong usage or settings.
    #[command(verbatim_doc_comment)]
    Run(Box<run::flags::Flags>),
    /// Measure the batcher beside the model alone, other proxies and other batchers
    ///
    /// Starts each of them on this machine with the same simulated model, sends closed and open loops to each in
    /// turn, and prints requests/s, latencies, CPU time per request, and which goals were met. nginx, HAProxy and
    /// servers from PyPI are installed on demand into a folder of their own; one that cannot be is a row that says so.
    ///
    /// Examples (release builds of both programs in one folder):
    ///
    ///   sluice-loadtest compare --rounds 5 --json compare.json
    ///
    ///   sluice-loadtest compare --peers direct,sluice --scenarios closed
    ///
    /// Exit codes: 0 measured, 1 with --strict: a goal was missed or a peer was not measured, 64 wrong usage or
    /// settings.
    #[command(verbatim_doc_comment)]
    Compare(Box<compare::settings::Flags>),

    /// Run the whole of Sluice on this machine under a real trace's shape
    ///
    /// Starts simulated GPUs, sluice-driver, sluice-autoscaler on the local platform, a gateway and reference
    /// model servers (simulated inference) as separate processes, replays one day of a public trace in about
    /// three minutes, and beside it, on stacks of their own, the same with fixed replicas: enough for the
    /// peak, and what the mean suggests. Prints a table, writes a report, leaves nothing behind.
    ///
    /// Exit codes: 0 success, 1 a request was lost, nothing was scaled up or down, or a process, socket or
    /// slice was left behind (with --strict also: the objective was missed), 64 wrong usage or settings.
    #[command(verbatim_doc_comment)]
    Demo(Box<demo::flags::DemoFlags>),
}
