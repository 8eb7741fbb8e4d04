//! The annotations by which a pod configures its sidecar and its gate.

use k8s_openapi::api::core::v1::Pod;
use sluice_config::names::pod as names;
use sluice_process::settings::meant;

use super::InjectionError;

/// Name of the model's port where the pod names none.
const DEFAULT_PORT: &str = "http";
/// Longest deadline of a gate, in seconds. A larger number was meant in milliseconds.
pub(crate) const MOST_DEADLINE_SECONDS: u64 = 86_400;

/// The valid annotations of a pod; `None` where the pod has none of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Annotations {
    pub(super) port_name: String,
    pub(super) front_port: Option<u16>,
    pub(super) admin_port: Option<u16>,
    pub(super) models: Option<String>,
    pub(super) objective_ms: Option<u64>,
    pub(super) max_batch_rows: Option<u64>,
    pub(super) batching: Option<String>,
}

impl Annotations {
    /// Reads the annotations of `pod`.
    ///
    /// # Errors
    /// Names the annotation whose value is not valid.
    pub(super) fn read(pod: &Pod) -> Result<Self, InjectionError> {
        let given = pod.metadata.annotations.as_ref();
        let text = |name: &str| given.and_then(|given| given.get(name)).map(String::as_str);
        let refused = |name: &str, problem: String| {
            InjectionError::new(format!("metadata.annotations[{name}]"), problem)
        };
        let positive = |name: &'static str| match text(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                // The smallest type that any of them becomes.
                Ok(number) if (1..=u64::from(u32::MAX)).contains(&number) => Ok(Some(number)),
                _ => {
                    let meant = meant(name, text).map_or_else(String::new, |meant| format!("; {meant}"));
                    let problem =
                        format!("{text:?} is not a whole number above 0 (at most {}){meant}", u32::MAX);
                    Err(refused(name, problem))
                }
            },
        };
        let own_port = |name: &'static str| match text(name).map(str::parse::<u16>) {
            None => Ok(None),
            Some(Ok(port @ 1024..)) => Ok(Some(port)),
            Some(_) => {
                let problem = format!(
                    "{:?} is not a port of the sidecar's, 1024 to 65535 (it runs as a user without privileges)",
                    text(name).unwrap_or_default()
                );
                Err(refused(name, problem))
            }
        };
        let port_name = text(names::PORT_ANNOTATION).unwrap_or(DEFAULT_PORT);
        // A port's name has a letter, so this is a number, or nothing that could be a name.
        if !port_name.contains(|letter: char| letter.is_ascii_lowercase()) {
            let problem = format!(
                "{port_name:?} is not the name of a port; the sidecar takes over a port by its name, because \
                 Services that send to a number would pass it by"
            );
            return Err(refused(names::PORT_ANNOTATION, problem));
        }
        let models = text(names::MODELS_ANNOTATION).map(str::to_owned);
        if let Some(models) = &models
            && models.split(',').any(|model| model.trim().is_empty())
        {
            let problem = format!("{models:?} is not a list of model names separated by commas");
            return Err(refused(names::MODELS_ANNOTATION, problem));
        }
        let batching = text(names::BATCHING_ANNOTATION);
        if let Some(value) = batching.filter(|value| !names::BATCHING_VALUES.contains(value)) {
            let problem = format!("{value:?} is none of {}", names::BATCHING_VALUES.join(", "));
            return Err(refused(names::BATCHING_ANNOTATION, problem));
        }
        if let Some(seconds) =
            positive(names::GATE_DEADLINE_ANNOTATION)?.filter(|s| *s > MOST_DEADLINE_SECONDS)
        {
            let problem = format!("{seconds} seconds are more than a day ({MOST_DEADLINE_SECONDS})");
            return Err(refused(names::GATE_DEADLINE_ANNOTATION, problem));
        }
        Ok(Self {
            port_name: port_name.to_owned(),
            front_port: own_port(names::FRONT_PORT_ANNOTATION)?,
            admin_port: own_port(names::ADMIN_PORT_ANNOTATION)?,
            models: models.map(|models| models.split(',').map(str::trim).collect::<Vec<_>>().join(",")),
            objective_ms: positive(names::OBJECTIVE_ANNOTATION)?,
            max_batch_rows: positive(names::MAX_BATCH_ROWS_ANNOTATION)?,
            batching: batching.map(str::to_owned),
        })
    }
}
