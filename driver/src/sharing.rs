//! Sharing strategies: how the containers of claims use one device.
//!
//! This is where a new strategy goes. A claim names it in its [`DeviceConfig`](crate::device_config::DeviceConfig),
//! the checkpoint keeps it with each device, and the methods below are called while the device is prepared and
//! released. A strategy that an older driver would misread needs a new version of the checkpoint.

use serde::{Deserialize, Serialize};

/// How the containers of a claim share a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SharingStrategy {
    /// Only the containers of the claim use the device, and nothing divides it between them.
    #[default]
    Exclusive,
}

impl SharingStrategy {
    /// Returns whether this is the default, which the checkpoint leaves out.
    pub(crate) fn is_exclusive(&self) -> bool {
        *self == Self::Exclusive
    }

    /// Starts what the strategy needs on a device whose MIG instance exists, before the CDI file is written. Every
    /// prepare of the claim calls it again.
    pub(crate) fn start(self) {
        match self {
            Self::Exclusive => {}
        }
    }

    /// Stops what [`Self::start`] started, before the MIG instance of the device is destroyed.
    pub(crate) fn stop(self) {
        match self {
            Self::Exclusive => {}
        }
    }

    /// Returns variables (`NAME=value`) that the containers of the device need.
    pub(crate) fn container_env(self) -> Vec<String> {
        match self {
            Self::Exclusive => Vec::new(),
        }
    }
}
