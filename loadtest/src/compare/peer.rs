//! Peers of the comparison. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::scenario::Scenario;

/// Peer, that is, a row of the table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The reference model alone.
    Direct,
    /// nginx in front of the reference model.
    Nginx,
    /// `HAProxy` in front of the reference model.
    Haproxy,
    /// sluice-batcher in front of the reference model.
    Sluice,
    /// sluice-batcher with `batching: off`.
    SluiceOff,
    /// MOSEC with the same simulated model inside.
    Mosec,
    /// `PyTriton`, which is Triton's own server, with the simulated model inside.
    Pytriton,
    /// `LitServe` with the simulated model inside.
    Litserve,
    /// `BentoML` with the simulated model inside.
    Bentoml,
    /// The `KServe` SDK, which has no batching, with the simulated model inside.
    Kserve,
}

/// Form of a peer's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Open Inference Protocol, REST JSON.
    V2,
    /// One row in the peer's own form, posted to this path.
    Own {
        path: &'static str,
        /// Whether the row is in a list under `rows`.
        listed: bool,
    },
}

impl Peer {
    /// All peers, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self::Direct,
        Self::Nginx,
        Self::Haproxy,
        Self::Sluice,
        Self::SluiceOff,
        Self::Mosec,
        Self::Pytriton,
        Self::Litserve,
        Self::Bentoml,
        Self::Kserve,
    ];

    /// Returns the name used in flags, files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Sluice => "sluice",
            Self::SluiceOff => "sluice-off",
            Self::Mosec => "mosec",
            Self::Pytriton => "pytriton",
            Self::Litserve => "litserve",
            Self::Bentoml => "bentoml",
            Self::Kserve => "kserve",
        }
    }

    /// Returns whether the peer is the reference model or a proxy in front of it; other peers have the simulated model
    /// inside.
    pub fn is_before_reference_model(self) -> bool {
        matches!(self, Self::Direct | Self::Nginx | Self::Haproxy | Self::Sluice | Self::SluiceOff)
    }

    /// Returns the form of the peer's requests.
    pub fn form(self) -> Form {
        match self {
            Self::Mosec => Form::Own { path: "/inference", listed: false },
            Self::Litserve => Form::Own { path: "/predict", listed: false },
            Self::Bentoml => Form::Own { path: "/predict", listed: true },
            _ => Form::V2,
        }
    }

    /// Returns whether the peer is measured in this scenario. Overload needs a peer that can reject requests; added
    /// latency is measured on proxies only.
    pub fn takes_part(self, scenario: Scenario) -> bool {
        match scenario {
            Scenario::Closed => true,
            Scenario::Open => {
                matches!(self, Self::Sluice | Self::Mosec | Self::Pytriton | Self::Litserve | Self::Bentoml)
            }
            Scenario::Hop => self.is_before_reference_model(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx hop",
            Self::Haproxy => "HAProxy hop",
            Self::Sluice => "Sluice",
            Self::SluiceOff => "Sluice, batching off",
            Self::Mosec => "MOSEC",
            Self::Pytriton => "PyTriton",
            Self::Litserve => "LitServe",
            Self::Bentoml => "BentoML",
            Self::Kserve => "KServe SDK",
        })
    }
}
