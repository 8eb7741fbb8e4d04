//! The sender of a request: requests of one whose requests harm others share no batch with those of others.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Extensions;

use super::tenants::Tenant;

/// Sender of a request: its tenant where it names one, else its connection. Numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Identifier of a tenant.
    Tenant(u64),
    /// A connection of a client that names no tenant.
    Connection(ConnectionNumber),
}

/// Number of a client's connection, in the extensions of the requests that come over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionNumber(u64);

impl ConnectionNumber {
    /// Returns the number of a new connection.
    pub fn next() -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        Self(CONNECTIONS.fetch_add(1, Ordering::Relaxed))
    }
}

impl Caller {
    /// Returns the sender of a request of this tenant with these extensions; `None` where neither identifies it.
    pub fn of(tenant: Option<&Tenant>, extensions: Option<&Extensions>) -> Option<Self> {
        // Tenants beyond `maxTenants` share a number and have no identifier: none of them is to blame for another.
        if let Some(id) = tenant.and_then(Tenant::id) {
            return Some(Self::Tenant(id));
        }
        extensions?.get::<ConnectionNumber>().copied().map(Self::Connection)
    }
}
