//! Model servers as settings and the members file name them.

use crate::address::check_address;
use serde::{Deserialize, Serialize};

/// One model server of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// Name in logs, metrics and `/upstreams`; unique.
    pub name: String,
    /// `host:port` of its HTTP port, or `unix:/path`; empty for one that speaks gRPC only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// `host:port` or `unix:/path` for gRPC, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_address: Option<String>,
}

impl Member {
    /// Whether only an address for gRPC is known.
    pub fn is_grpc_only(&self) -> bool {
        self.address.is_empty()
    }

    /// Where it is spoken to over gRPC.
    pub fn grpc(&self) -> &str {
        self.grpc_address.as_deref().unwrap_or(&self.address)
    }

    /// The address by which it is known.
    pub fn main_address(&self) -> &str {
        if self.is_grpc_only() { self.grpc() } else { &self.address }
    }
}

/// Whether a membership is valid: names unique and not empty, addresses `host:port` or `unix:/path`.
///
/// # Errors
/// What is wrong with which member.
pub fn check_members(members: &[Member]) -> Result<(), String> {
    let mut names = std::collections::BTreeSet::new();
    for member in members {
        if member.name.is_empty() {
            return Err(format!("the member with address {:?} has no name", member.main_address()));
        }
        if !names.insert(&member.name) {
            return Err(format!("the name {:?} occurs twice", member.name));
        }
        if member.main_address().is_empty() {
            return Err(format!("{}: needs an address or a grpcAddress", member.name));
        }
        let http = Some(&member.address).filter(|_| !member.is_grpc_only());
        for address in http.into_iter().chain(&member.grpc_address) {
            check_address(address).map_err(|problem| format!("{}: {problem}", member.name))?;
        }
    }
    Ok(())
}
