//! Kubernetes Events about claims and the pods that use them.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::super::{ClaimEvent, ClaimRef};

/// Creates a recorder that publishes events in the name of this node's driver.
pub(super) fn recorder(client: Client, driver: &str, node: &str) -> Recorder {
    Recorder::new(client, Reporter { controller: driver.to_owned(), instance: Some(node.to_owned()) })
}

pub(super) fn warning(event: &ClaimEvent) -> Event {
    Event {
        type_: EventType::Warning,
        reason: event.reason.to_owned(),
        note: Some(event.message.clone()),
        action: event.reason.to_owned(),
        secondary: None,
    }
}

/// Returns references to the claim and, if its object exists, to the pods for which it is reserved.
pub(super) fn concerned(claim: &ClaimRef, object: Option<&ResourceClaim>) -> Vec<ObjectReference> {
    let reference = |api_version: &str, kind: &str, name: &str, uid: &str| ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(claim.namespace.clone()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    let mut all = vec![reference("resource.k8s.io/v1", "ResourceClaim", &claim.name, &claim.uid)];
    let object = object.filter(|object| object.metadata.uid.as_deref() == Some(&claim.uid));
    let status = object.and_then(|object| object.status.as_ref());
    for consumer in status.and_then(|status| status.reserved_for.as_ref()).into_iter().flatten() {
        if consumer.resource == "pods" {
            all.push(reference("v1", "Pod", &consumer.name, &consumer.uid));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_about_the_claim_and_its_pods_and_not_about_those_of_another_of_its_name() {
        let object = |uid: &str| -> ResourceClaim {
            serde_json::from_value(json!({
                "metadata": {"name": "c", "namespace": "default", "uid": uid},
                "spec": {"devices": {}},
                "status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "2"}]},
            }))
            .unwrap()
        };
        let claim = ClaimRef { namespace: "default".to_owned(), name: "c".to_owned(), uid: "1".to_owned() };
        let kinds = |object: Option<&ResourceClaim>| -> Vec<String> {
            concerned(&claim, object).into_iter().filter_map(|about| about.kind).collect()
        };
        assert_eq!(kinds(Some(&object("1"))), ["ResourceClaim", "Pod"]);
        assert_eq!(kinds(Some(&object("3"))), ["ResourceClaim"]);
        assert_eq!(kinds(None), ["ResourceClaim"]);
    }
}
