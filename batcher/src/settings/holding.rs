//! What happens to requests while no model server is ready.

use super::WhileCold;
use super::table::{Setting, settings_group};

settings_group! {
    /// While no model server is ready
    pub struct HoldingSettings {
        /// Maximum time that requests are held while no model server is ready; then 503.
        hold_ms: u64 = 30_000, Setting::new("holdMs");
        /// Sidecar: hold or reject requests that arrive while the model server is not warm.
        ///
        /// `reject`: they get 503 at once, so that clients try another replica; requests that were admitted before are still held.
        while_cold: WhileCold = WhileCold::Hold, Setting::new("whileCold");
    }
}
