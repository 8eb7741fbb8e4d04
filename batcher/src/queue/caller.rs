//! Whose a request is, where requests of one that harm others are to go apart.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Extensions;

use super::tenants::Tenant;

/// A client, told from all others: its tenant where it has one, else its connection. Numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A tenant.
    Tenant(u64),
    /// A connection of a client that names no tenant.
    Connection(ConnectionNumber),
}

/// Number of a client's connection, in the extensions of the requests that come over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionNumber(u64);

impl ConnectionNumber {
    /// The number of a new connection.
    pub fn next() -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        Self(CONNECTIONS.fetch_add(1, Ordering::Relaxed))
    }
}

impl Caller {
    /// Of a request of this tenant with these extensions; `None` where neither says whose it is.
    pub fn of(tenant: Option<&Tenant>, extensions: Option<&Extensions>) -> Option<Self> {
        // Tenants beyond `maxTenants` share a place: one of them does not answer for the others.
        if let Some(id) = tenant.and_then(Tenant::id) {
            return Some(Self::Tenant(id));
        }
        extensions?.get::<ConnectionNumber>().copied().map(Self::Connection)
    }
}
