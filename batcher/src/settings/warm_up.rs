//! How model servers are warmed up.

use std::path::PathBuf;

use super::Warmup;
use super::table::{Bounds, Setting, settings_group};

settings_group! {
    /// Warm-up
    pub struct WarmUpSettings {
        /// Whether and how to warm up.
        ///
        /// `metadata`: zeros of the shapes in the model's metadata, or the bodies in `warmupBodies`. `recorded`: also one request
        /// of each shape that clients have sent (at most 4), kept in memory for the next model server and in
        /// `<folder>/*.recorded` for the next process (client data: mind who can read that folder). `off`: the barrier opens
        /// at once.
        warmup: Warmup = Warmup::Metadata, Setting::new("warmup").rewarms();
        /// Folder with warm-up bodies, `<model>.<rows>.json`.
        ///
        /// Each is a V2 JSON request with that number of rows; `….v1.json` for a server that speaks only V1.
        warmup_bodies: Option<PathBuf> = None, Setting::new("warmupBodies").value_name("FOLDER").rewarms();
        /// Maximum number of warm-up calls per batch size until its time must have become stable.
        warmup_max_calls: u32 = 16, Setting::new("warmupMaxCalls").file_only().bounds(Bounds::AtLeastOne);
    }
}
