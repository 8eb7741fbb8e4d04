//! Reads the environment of a process from CDI specifications. Device nodes and mounts are for containers, which there are
//! none of here.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use sluice_config::names::env;

/// Environment variables in the order in which they apply.
pub(super) type Environment = Vec<(String, String)>;

/// Reason why a device's environment is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum CdiError {
    /// The directory cannot be read.
    #[error("CDI directory {path}: {source}")]
    Unreadable {
        /// Path of the directory.
        path: String,
        source: io::Error,
    },
    /// A device id is not of the form `vendor/class=name`.
    #[error("CDI device {0:?} is not of the form vendor/class=name")]
    Id(String),
    /// No specification has the device.
    #[error("no CDI specification in {dir} has the device {id:?}; does the driver write to that directory?")]
    NotFound {
        /// Path of the directory.
        dir: String,
        /// Id of the device.
        id: String,
    },
    /// A variable has no `=`.
    #[error("CDI device {id:?}: {variable:?} is not of the form NAME=value")]
    Variable {
        /// Id of the device.
        id: String,
        /// Text of the variable.
        variable: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Edits {
    env: Vec<String>,
}

/// Returns the environment of the given devices: for each the variables of its specification first, then its own.
pub(super) fn environment(dir: &Path, ids: &[String]) -> Result<Environment, CdiError> {
    let specs = read(dir)?;
    let mut environment = Environment::new();
    for id in ids {
        let (kind, name) = id.split_once('=').ok_or_else(|| CdiError::Id(id.clone()))?;
        let found = specs
            .iter()
            .filter(|spec| spec.kind == kind)
            .find_map(|spec| spec.devices.iter().find(|device| device.name == name).map(|d| (spec, d)));
        let Some((spec, device)) = found else {
            return Err(CdiError::NotFound { dir: dir.display().to_string(), id: id.clone() });
        };
        for variable in spec.container_edits.env.iter().chain(&device.container_edits.env) {
            let (name, value) = variable
                .split_once('=')
                .ok_or_else(|| CdiError::Variable { id: id.clone(), variable: variable.clone() })?;
            environment.retain(|(known, _)| known != name);
            environment.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(with_visible_devices(environment))
}

/// Adds `CUDA_VISIBLE_DEVICES` with the claimed devices unless a specification has it: without a container no device nodes
/// limit the process.
fn with_visible_devices(mut environment: Environment) -> Environment {
    let uuids: Vec<&str> = environment
        .iter()
        .filter(|(name, _)| name.starts_with(env::UUID_PREFIX))
        .map(|(_, uuid)| uuid.as_str())
        .collect();
    if !uuids.is_empty() && !environment.iter().any(|(name, _)| name == env::CUDA_VISIBLE_DEVICES) {
        environment.push((env::CUDA_VISIBLE_DEVICES.to_owned(), uuids.join(",")));
    }
    environment
}

/// Reads every JSON specification. Other files, such as YAML of another vendor or broken ones, are skipped.
fn read(dir: &Path) -> Result<Vec<Spec>, CdiError> {
    let unreadable = |source| CdiError::Unreadable { path: dir.display().to_string(), source };
    let mut specs = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(bytes) = fs::read(&path)
            && let Ok(spec) = serde_json::from_slice(&bytes)
        {
            specs.push(spec);
        }
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{"cdiVersion":"0.5.0","kind":"sluice.dev/claim","containerEdits":{"env":["A=spec","B=spec"]},
        "devices":[{"name":"u-gpu-0","containerEdits":{"env":["B=device","C=x=y"],"deviceNodes":[{"path":"/dev/nvidia0"}]}}]}"#;

    #[test]
    fn a_devices_own_variable_wins_over_its_specification() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("sluice.dev-claim_u.json"), SPEC).unwrap();
        fs::write(dir.path().join("other.json"), "not json").unwrap();
        let environment = environment(dir.path(), &["sluice.dev/claim=u-gpu-0".to_owned()]).unwrap();
        let pairs: Vec<_> = environment.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "spec"), ("B", "device"), ("C", "x=y")]);
    }

    #[test]
    fn a_process_is_told_all_its_devices_by_the_variable_that_cuda_reads() {
        let given = [("SLUICE_UUID_GPU_0", "GPU-x"), ("OTHER", "o"), ("SLUICE_UUID_GPU_1", "GPU-y")];
        let given: Environment = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let visible = ("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-x,GPU-y".to_owned());
        assert_eq!(with_visible_devices(given).last(), Some(&visible));
        assert_eq!(with_visible_devices(Environment::new()), []);
    }

    #[test]
    fn a_device_that_no_specification_has_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.json"), SPEC).unwrap();
        let error = environment(dir.path(), &["sluice.dev/claim=other".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("sluice.dev/claim=other"), "{error}");
        assert!(environment(dir.path(), &["nonsense".to_owned()]).is_err());
    }
}
