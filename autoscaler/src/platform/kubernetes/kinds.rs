//! Looks up kinds by API version and name.

use kube::Client;
use kube::core::GroupVersionKind;
use kube::discovery::{self, ApiCapabilities, ApiResource};

/// Returns the group of an API version; empty for the core group.
pub(crate) fn group(api_version: &str) -> &str {
    group_and_version(api_version).0
}

fn group_and_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Asks the API server for a kind; `None` where it has no such kind.
pub(super) async fn find(
    client: &Client,
    api_version: &str,
    kind: &str,
) -> Result<Option<(ApiResource, ApiCapabilities)>, kube::Error> {
    let (group, version) = group_and_version(api_version);
    match discovery::pinned_kind(client, &GroupVersionKind::gvk(group, version, kind)).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Discovery(_)) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}
