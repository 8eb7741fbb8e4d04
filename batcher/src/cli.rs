//! Flags and environment variables; both set the same settings as the settings file.

use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;

use crate::settings::SettingFlags;

/// Request batcher in front of model servers that speak the Open Inference Protocol.
///
/// Requests of concurrent clients (V2 JSON, V2 binary, V1 :predict, gRPC ModelInfer) for one model are merged into batches and
/// their answers split again. No request reaches a model server that is not warm.
///
/// As a sidecar of one model server:
///
///   sluice-batcher --upstream 127.0.0.1:9000 --models bert --objective-ms 100
///
/// As a gateway in front of several, which may come and go:
///
///   sluice-batcher --role gateway --members members.json --models bert
///
/// A flag wins over its environment variable, that over the settings file, that over the default.
#[derive(Debug, Default, Parser, Serialize)]
#[command(name = "sluice-batcher", version, verbatim_doc_comment)]
pub struct Flags {
    /// Settings file (YAML)
    #[arg(long, env = "SLUICE_BATCHER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// A flag for each setting that may be given by one.
    #[command(flatten)]
    #[serde(flatten)]
    pub settings: SettingFlags,
}
