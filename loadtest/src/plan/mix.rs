//! Protocols of requests, and mixes of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Protocol of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Open Inference Protocol, REST, tensors as JSON.
    RestJson,
    /// Open Inference Protocol, REST, binary tensors both ways.
    RestBinary,
    /// Open Inference Protocol, gRPC.
    Grpc,
    /// A body from a file, posted to a path as it is.
    Body,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RestJson, Self::RestBinary, Self::Grpc, Self::Body];

    /// Returns the name used in settings and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RestJson => "rest-json",
            Self::RestBinary => "rest-binary",
            Self::Grpc => "grpc",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A mix that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "protocol `{part}`: expected rest-json, rest-binary or grpc, alone or as a mix such as rest-json=50,grpc=50"
)]
pub struct UnknownProtocol {
    /// The part that is wrong.
    pub part: String,
}

/// Protocols with weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    parts: Vec<(Protocol, u32)>,
}

impl Mix {
    /// Creates a mix of one protocol.
    pub fn only(protocol: Protocol) -> Self {
        Self { parts: vec![(protocol, 1)] }
    }

    /// Returns the protocol for a random number of the range 0..1.
    pub fn pick(&self, draw: f64) -> Protocol {
        let total: u32 = self.parts.iter().map(|(_, weight)| weight).sum();
        let mut left = draw * f64::from(total);
        for (protocol, weight) in &self.parts {
            left -= f64::from(*weight);
            if left < 0.0 {
                return *protocol;
            }
        }
        self.parts.last().map_or(Protocol::RestJson, |(protocol, _)| *protocol)
    }

    /// Returns the protocols of the mix.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol> {
        self.parts.iter().map(|(protocol, _)| *protocol)
    }
}

impl FromStr for Mix {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        let mut parts: Vec<(Protocol, u32)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let unknown = || UnknownProtocol { part: part.to_owned() };
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let named = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == name);
            let protocol = named.filter(|protocol| *protocol != Protocol::Body).ok_or_else(unknown)?;
            let weight =
                weight.parse().ok().filter(|weight| (1..=1_000_000).contains(weight)).ok_or_else(unknown)?;
            if parts.iter().any(|(other, _)| *other == protocol) {
                return Err(unknown());
            }
            parts.push((protocol, weight));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(protocol, _)] = self.parts.as_slice() {
            return write!(f, "{protocol}");
        }
        for (index, (protocol, weight)) in self.parts.iter().enumerate() {
            write!(f, "{}{protocol}={weight}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_picks_by_weight() {
        let mix: Mix = "rest-json=50,rest-binary=25,grpc=25".parse().unwrap();
        let picked = [0.0, 0.49, 0.51, 0.74, 0.76, 0.999].map(|draw| mix.pick(draw));
        use Protocol::{Grpc, RestBinary, RestJson};
        assert_eq!(picked, [RestJson, RestJson, RestBinary, RestBinary, Grpc, Grpc]);
        assert_eq!(mix.to_string(), "rest-json=50,rest-binary=25,grpc=25");
    }

    #[test]
    fn what_is_no_mix_is_refused_by_its_part() {
        for (text, part) in
            [("http", "http"), ("grpc=0", "grpc=0"), ("grpc,grpc", "grpc"), ("", ""), ("body", "body")]
        {
            assert_eq!(text.parse::<Mix>(), Err(UnknownProtocol { part: part.into() }), "{text}");
        }
    }
}
