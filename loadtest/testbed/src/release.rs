//! Supported Kubernetes releases, and the settings that each needs.

use std::str::FromStr;

use anyhow::bail;
use serde::{Deserialize, Serialize};

/// Feature gates of 1.34 and 1.35 that Sluice needs. Later releases enable them by default.
const GATES_BEFORE_1_36: &[&str] =
    &["DRAPartitionableDevices", "DRAExtendedResource", "DRADeviceTaints", "ResourceHealthStatus"];

const RELEASES: [Release; 4] = [
    // The scheduler of 1.34 watches taint rules, and schedules nothing until it has listed them.
    Release { minor: 34, patch: 10, gates: GATES_BEFORE_1_36, apis: Some("resource.k8s.io/v1alpha3=true") },
    Release { minor: 35, patch: 4, gates: GATES_BEFORE_1_36, apis: None },
    Release { minor: 36, patch: 4, gates: &[], apis: None },
    Release { minor: 37, patch: 1, gates: &[], apis: None },
];

/// One supported release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The 37 of 1.37.
    pub minor: u32,
    /// The patch release that it is tested with.
    pub patch: u32,
    /// Feature gates that must be turned on, in every component.
    pub gates: &'static [&'static str],
    /// APIs that must be turned on for these gates.
    pub apis: Option<&'static str>,
}

/// Minor version in the form `1.37`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Minor(u32);

impl Minor {
    /// The newest.
    pub const NEWEST: Minor = Minor(37);

    /// What is known of it.
    pub fn release(self) -> Release {
        let known = RELEASES.into_iter().find(|release| release.minor == self.0);
        // Parsing is the only way to a value, and it looks there.
        known.unwrap_or(RELEASES[RELEASES.len() - 1])
    }
}

impl Release {
    /// `1.37.1`.
    pub fn version(self) -> String {
        format!("1.{}.{}", self.minor, self.patch)
    }

    /// Value of `--feature-gates`, where there is one.
    pub fn feature_gates(self) -> Option<String> {
        let gates: Vec<String> = self.gates.iter().map(|gate| format!("{gate}=true")).collect();
        (!gates.is_empty()).then(|| gates.join(","))
    }
}

impl FromStr for Minor {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let known = |release: &&Release| text == format!("1.{}", release.minor) || text == release.version();
        match RELEASES.iter().find(known) {
            Some(release) => Ok(Minor(release.minor)),
            None => {
                let all: Vec<String> =
                    RELEASES.iter().map(|release| format!("1.{}", release.minor)).collect();
                bail!("unknown Kubernetes release {text}; known are {}", all.join(", "))
            }
        }
    }
}

impl std::fmt::Display for Minor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "1.{}", self.0)
    }
}

impl TryFrom<String> for Minor {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        text.parse()
    }
}

impl From<Minor> for String {
    fn from(minor: Minor) -> String {
        minor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minor_version_names_its_tested_patch_release() {
        assert_eq!("1.34".parse::<Minor>().unwrap().release().version(), "1.34.10");
        assert_eq!(Minor::NEWEST.release().version(), "1.37.1");
    }

    #[test]
    fn an_unknown_release_is_refused_with_the_known_ones() {
        let error = "1.33".parse::<Minor>().unwrap_err().to_string();
        assert_eq!(error, "unknown Kubernetes release 1.33; known are 1.34, 1.35, 1.36, 1.37");
    }

    #[test]
    fn partitionable_devices_are_turned_on_where_they_are_not_by_default() {
        let gates = |minor: &str| minor.parse::<Minor>().unwrap().release().feature_gates();
        assert!(gates("1.34").unwrap().starts_with("DRAPartitionableDevices=true,"));
        assert!(gates("1.35").unwrap().contains("DRAExtendedResource=true"));
        assert_eq!(gates("1.36"), None);
    }
}
