//! What clients may do, and which of their headers go on.

use super::own_headers::header_name;
use super::table::{Setting, settings_group};
use super::{ControlPaths, InvalidSetting};

settings_group! {
    /// What clients may do
    pub struct AccessSettings {
        /// Whether clients may control model servers: load, unload, trace, log, shared memory, sleep.
        ///
        /// `refuse` or `allow`: see [What clients may not do](#what-clients-may-not-do).
        control_paths: ControlPaths = ControlPaths::Refuse, Setting::new("controlPaths");
        /// Beginnings of the paths that may pass through.
        ///
        /// Such as `/v2,/inference.GRPCInferenceService`: see [What clients may not do](#what-clients-may-not-do).
        pass_paths: Vec<String> = Vec::new(), Setting::new("passPaths").value_name("PATH,…").absent("all");
        /// Headers of clients that go to the model server with a batch.
        ///
        /// Only requests with the same values share a batch, so that no request uses another client's credentials; all other
        /// headers of clients stay behind where requests are merged. Leave `cookie` out where a load balancer gives each
        /// client one of its own that no model server reads: nothing would be merged.
        shared_headers: Vec<String> = ["authorization", "cookie", "x-api-key"].map(str::to_owned).into(),
            Setting::new("sharedHeaders").file_only();
    }
}

impl AccessSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if let Some(problem) = self.shared_headers.iter().find_map(|name| header_name(name).err()) {
            return Err(InvalidSetting { field: "sharedHeaders", problem });
        }
        if let Some(path) = self.pass_paths.iter().find(|path| !path.starts_with('/') || path.contains('%')) {
            let problem = format!("{path:?} must begin with /, and stand without escapes");
            return Err(InvalidSetting { field: "passPaths", problem });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_the_batcher_sets_cannot_be_those_of_clients() {
        let shared =
            |name: &str| AccessSettings { shared_headers: vec![name.to_owned()], ..Default::default() };
        shared("x-team").check().unwrap();
        let error = shared("Content-Type").check().unwrap_err().to_string();
        assert_eq!(error, r#"sharedHeaders: "Content-Type" is set by the batcher itself"#);
        assert_eq!(shared("a b").check().unwrap_err().field, "sharedHeaders");
    }
}
