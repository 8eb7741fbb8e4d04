//! Tenants: gives each name that clients send a number. Only tenants with requests that the batcher holds are known, and
//! at most `maxTenants` of them, because clients can invent names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::settings::Settings;

/// Tenant number of requests that name no tenant.
pub const NOBODY: u32 = 0;
/// Tenant number that all tenants beyond `maxTenants` share.
const OTHERS: u32 = 1;

/// Identifier of the next tenant.
static IDS: AtomicU64 = AtomicU64::new(1);

/// Tenant with requests that the batcher holds.
#[derive(Debug)]
pub struct Tenant {
    /// Number of the tenant, unique among those that are known now.
    pub number: u32,
    /// Identifier of the tenant, never used again; 0 for those that share a number.
    id: u64,
    /// Weight of the tenant's share of the service.
    pub weight: u32,
    /// Bytes of the tenant's requests.
    pub(super) bytes: Arc<AtomicUsize>,
}

impl PartialEq for Tenant {
    fn eq(&self, other: &Self) -> bool {
        (self.number, self.weight) == (other.number, other.weight)
    }
}

impl Eq for Tenant {}

impl Tenant {
    /// Returns the identifier of the tenant, never used again; `None` for those that share a number.
    pub(super) fn id(&self) -> Option<u64> {
        (self.id != 0).then_some(self.id)
    }
}

/// Tenants with requests that the batcher holds.
#[derive(Debug)]
pub struct Tenants {
    known: Mutex<HashMap<Box<str>, Arc<Tenant>>>,
    others: Arc<Tenant>,
}

impl Default for Tenants {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            others: Arc::new(Tenant { number: OTHERS, id: 0, weight: 1, bytes: Arc::default() }),
        }
    }
}

impl Tenants {
    /// Returns the tenant of this name; hold it for as long as the batcher holds the request.
    pub fn of(&self, name: &str, settings: &Settings) -> Arc<Tenant> {
        let weight = settings.order.tenant_weights.get(name).copied().unwrap_or(1);
        // The map is never left half-changed by a panic.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(name) {
            Some(tenant) if tenant.weight == weight => return Arc::clone(tenant),
            Some(tenant) => {
                let bytes = Arc::clone(&tenant.bytes);
                *tenant = Arc::new(Tenant { number: tenant.number, id: tenant.id, weight, bytes });
                return Arc::clone(tenant);
            }
            None => {}
        }
        if known.len() >= settings.order.max_tenants {
            // Only this map holds the removed ones: they have no request here.
            known.retain(|_, tenant| Arc::strong_count(tenant) > 1);
        }
        if known.len() >= settings.order.max_tenants {
            return Arc::clone(&self.others);
        }
        let is_free = |number: &u32| known.values().all(|tenant| tenant.number != *number);
        let Some(number) = (OTHERS + 1..).find(is_free) else { return Arc::clone(&self.others) };
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let tenant = Arc::new(Tenant { number, id, weight, bytes: Arc::default() });
        known.insert(name.into(), Arc::clone(&tenant));
        tenant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_settings;

    #[test]
    fn names_that_clients_invent_share_one_place_while_others_have_requests_here() {
        let settings = with_settings!(Settings::default(), order.max_tenants = 2);
        let tenants = Tenants::default();
        let (a, b) = (tenants.of("a", &settings), tenants.of("b", &settings));
        assert_ne!(a.number, b.number);
        assert_eq!(tenants.of("a", &settings), a);
        assert!((0..100).all(|n| tenants.of(&format!("invented-{n}"), &settings).number == OTHERS));
        drop(a);
        let c = tenants.of("c", &settings);
        assert!(c.number != OTHERS && c.number != b.number, "the place of one that left");
    }

    #[test]
    fn weights_are_those_of_the_settings_now() {
        let tenants = Tenants::default();
        let weighted =
            with_settings!(Settings::default(), order.tenant_weights = [("a".to_owned(), 3)].into());
        assert_eq!(tenants.of("a", &weighted).weight, 3);
        assert_eq!(tenants.of("a", &Settings::default()).weight, 1);
    }
}
