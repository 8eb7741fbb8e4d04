//! Takes over a settings file that was changed, without a restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use serde_json::{Map, Value};
use sluice_config::metric_names::batcher as names;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{InvalidSetting, Live, Settings, table};

/// How often the file is looked at. A mounted ConfigMap changes by a symlink, which no watch on the file sees.
const POLL: Duration = Duration::from_secs(1);

/// A settings file that is watched.
pub struct Reload {
    file: PathBuf,
    text: String,
    read: Box<dyn Fn() -> Result<Settings, String> + Send>,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Reload {
    /// Watches `file`; `read` makes settings of it, with flags and environment over them. What the file says now is
    /// taken to be in use.
    pub fn new(file: PathBuf, read: impl Fn() -> Result<Settings, String> + Send + 'static) -> Self {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        Self { file, text, read: Box::new(read) }
    }

    /// Takes changes over until `end`, at once when there is a hangup (SIGHUP). Settings that are not valid, or that
    /// need a restart, change nothing.
    pub async fn run(mut self, live: Live, hangups: Arc<Notify>, end: CancellationToken) {
        succeeded(true);
        let mut poll = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = poll.tick() => self.look(&live),
                () = hangups.notified() => self.read_again(&live),
            }
        }
    }

    /// Looks because somebody asked for it, who is told also that nothing has changed.
    fn read_again(&mut self, live: &Live) {
        match std::fs::read_to_string(&self.file) {
            Ok(text) if text == self.text => {
                tracing::info!(file = %self.file.display(), "SIGHUP: the settings file has not changed.");
            }
            Ok(_) => self.look(live),
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "SIGHUP: the settings file cannot be read; all stays as it is.");
            }
        }
    }

    fn look(&mut self, live: &Live) {
        // Missing for a moment, as while it is replaced: nothing new is known.
        let Ok(text) = std::fs::read_to_string(&self.file) else { return };
        if text == self.text {
            return;
        }
        self.text = text;
        let taken =
            (self.read)().and_then(|wanted| take_over(live, wanted).map_err(|error| error.to_string()));
        succeeded(taken.is_ok());
        match taken {
            Ok(changed) => {
                tracing::info!(file = %self.file.display(), ?changed, "The settings were read again.");
            }
            Err(trouble) => {
                tracing::error!(file = %self.file.display(), trouble, "The changed settings cannot be used; all stay as they are.");
            }
        }
    }
}

fn succeeded(yes: bool) {
    gauge!(names::SETTINGS_RELOAD_SUCCESSFUL).set(if yes { 1.0 } else { 0.0 });
}

/// Makes `wanted` the settings, all or none, and tells which fields have changed.
///
/// # Errors
/// A field that is not valid, or that cannot change without a restart.
pub fn take_over(live: &Live, wanted: Settings) -> Result<Vec<String>, InvalidSetting> {
    wanted.validate()?;
    let (old, new) = (live.now().by_name(), wanted.by_name());
    let changed: Vec<String> = new
        .iter()
        .filter(|(name, value)| old.get(*name) != Some(value))
        .map(|(name, _)| name.clone())
        .collect();
    let at_start = Settings::rows().map(|row| row.setting).filter(|row| row.reload == table::Reload::AtStart);
    if let Some(field) = at_start.map(|row| row.name).find(|name| changed.iter().any(|other| other == name)) {
        let value = |fields: &Map<String, Value>| fields.get(field).cloned().unwrap_or_default();
        return Err(InvalidSetting {
            field,
            problem: format!(
                "cannot change from {} to {} while the process runs; restart it",
                value(&old),
                value(&new)
            ),
        });
    }
    if !changed.is_empty() {
        live.set(wanted);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_settings;

    fn settings() -> Settings {
        with_settings!(Settings::default(), servers.upstream = Some("127.0.0.1:9000".into()))
    }

    #[test]
    fn valid_settings_are_taken_over_and_the_changed_ones_named() {
        let live = Live::new(settings());
        let changed = live.subscribe();
        let names =
            take_over(&live, with_settings!(settings(), batching.objective_ms = 70, servers.retries = 0))
                .unwrap();
        assert_eq!(names, ["objectiveMs", "retries"]);
        assert_eq!(live.now().batching.objective_ms, 70);
        assert!(changed.has_changed().unwrap());
    }

    #[test]
    fn what_is_not_valid_or_needs_a_restart_changes_nothing() {
        let live = Live::new(settings());
        let error = take_over(&live, with_settings!(settings(), batching.objective_ms = 0)).unwrap_err();
        assert_eq!(error.field, "objectiveMs");
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 9999));
        let error =
            take_over(&live, with_settings!(settings(), process.listen = listen, servers.retries = 9))
                .unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"listen: cannot change from "0.0.0.0:8080" to "127.0.0.1:9999" while the process runs; restart it"#
        );
        assert_eq!(live.now().servers.retries, Settings::default().servers.retries, "all or none");
        assert!(!live.subscribe().has_changed().unwrap());
    }

    #[test]
    fn a_file_is_taken_over_when_its_text_changes_and_kept_out_when_it_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("batcher.yaml");
        std::fs::write(&file, "upstream: 127.0.0.1:9000\n").unwrap();
        let path = file.clone();
        let read = move || {
            sluice_process::settings::load(Some(path.as_path()), &()).map_err(|error| error.to_string())
        };
        let mut reload = Reload::new(file.clone(), read);
        let live = Live::new(settings());
        reload.look(&live);
        assert!(!live.subscribe().has_changed().unwrap());
        std::fs::write(&file, "upstream: 127.0.0.1:9000\nobjectivMs: 5\n").unwrap();
        reload.look(&live);
        assert_eq!(live.now().batching.objective_ms, 1000);
        std::fs::write(&file, "upstream: 127.0.0.1:9000\nobjectiveMs: 5\n").unwrap();
        reload.look(&live);
        assert_eq!(live.now().batching.objective_ms, 5);
    }
}
