//! Store of the Lease: the API server, and for tests a fake in memory.

use async_trait::async_trait;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};

/// Outcome of a guarded write.
#[derive(Debug)]
pub(super) enum Written {
    /// The write succeeded; the Lease is what is stored now.
    Done(Box<Lease>),
    /// Nothing was written: the Lease had changed meanwhile, or existed already.
    Conflict,
}

/// The three calls that holding a Lease needs. Errors are texts, because each of them only leads to another try.
#[async_trait]
pub(super) trait LeaseStore: Send + Sync + 'static {
    /// Returns the Lease; `None` where it does not exist.
    async fn get(&self, name: &str) -> Result<Option<Lease>, String>;
    /// Stores a Lease that must not exist yet.
    async fn create(&self, lease: Lease) -> Result<Written, String>;
    /// Replaces a Lease that must still have the same resourceVersion.
    async fn replace(&self, lease: Lease) -> Result<Written, String>;
}

/// Leases of one namespace of an API server.
pub(super) struct ApiStore(Api<Lease>);

impl ApiStore {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }
}

#[async_trait]
impl LeaseStore for ApiStore {
    async fn get(&self, name: &str) -> Result<Option<Lease>, String> {
        self.0.get_opt(name).await.map_err(|error| error.to_string())
    }

    async fn create(&self, lease: Lease) -> Result<Written, String> {
        written(self.0.create(&PostParams::default(), &lease).await)
    }

    async fn replace(&self, lease: Lease) -> Result<Written, String> {
        let name = lease.metadata.name.clone().unwrap_or_default();
        written(self.0.replace(&name, &PostParams::default(), &lease).await)
    }
}

fn written(answer: kube::Result<Lease>) -> Result<Written, String> {
    match answer {
        Ok(lease) => Ok(Written::Done(Box::new(lease))),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Written::Conflict),
        Err(error) => Err(error.to_string()),
    }
}

/// An API server's Lease in memory, with switches for failures.
#[cfg(test)]
pub(super) mod fake {
    use std::sync::{Arc, Mutex};

    use super::{Lease, LeaseStore, Written, async_trait};

    #[derive(Default, Clone)]
    pub(crate) struct FakeStore(Arc<Mutex<State>>);

    #[derive(Default)]
    pub(crate) struct State {
        pub(crate) lease: Option<Lease>,
        pub(crate) version: u64,
        pub(crate) away: bool,
        pub(crate) hanging: bool,
        pub(crate) writes: u64,
    }

    impl FakeStore {
        pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
            change(&mut self.0.lock().unwrap())
        }

        pub(crate) fn holder(&self) -> Option<String> {
            self.with(|state| state.lease.clone()?.spec?.holder_identity)
        }

        async fn reach(&self) -> Result<(), String> {
            if self.with(|state| state.hanging) {
                std::future::pending::<()>().await;
            }
            if self.with(|state| state.away) { Err("connection refused".to_owned()) } else { Ok(()) }
        }

        fn store(&self, mut lease: Lease) -> Result<Written, String> {
            self.with(|state| {
                state.version += 1;
                state.writes += 1;
                lease.metadata.resource_version = Some(state.version.to_string());
                state.lease = Some(lease.clone());
            });
            Ok(Written::Done(Box::new(lease)))
        }
    }

    #[async_trait]
    impl LeaseStore for FakeStore {
        async fn get(&self, _name: &str) -> Result<Option<Lease>, String> {
            self.reach().await?;
            Ok(self.with(|state| state.lease.clone()))
        }

        async fn create(&self, lease: Lease) -> Result<Written, String> {
            self.reach().await?;
            if self.with(|state| state.lease.is_some()) {
                return Ok(Written::Conflict);
            }
            self.store(lease)
        }

        async fn replace(&self, lease: Lease) -> Result<Written, String> {
            self.reach().await?;
            let stored = self.with(|state| state.lease.clone()).and_then(|old| old.metadata.resource_version);
            if stored != lease.metadata.resource_version {
                return Ok(Written::Conflict);
            }
            self.store(lease)
        }
    }
}
