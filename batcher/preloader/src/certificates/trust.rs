//! Tells the API server whom to trust.

use anyhow::Context;
use json_patch::Patch as JsonPatch;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::NAME;

/// Writes the CA's certificates into every entry of the webhook's configuration that has others.
pub(super) async fn publish(
    configurations: &Api<MutatingWebhookConfiguration>,
    ca_certificates: &str,
) -> anyhow::Result<()> {
    let found = configurations
        .get_opt(NAME)
        .await
        .with_context(|| format!("reading MutatingWebhookConfiguration {NAME}"))?;
    let configuration = found.with_context(|| {
        format!(
            "there is no MutatingWebhookConfiguration {NAME}; install it: kubectl apply -k config/default"
        )
    })?;
    let Some(patch) = change(&configuration, ca_certificates)? else { return Ok(()) };
    configurations
        .patch(NAME, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .with_context(|| format!("writing caBundle of MutatingWebhookConfiguration {NAME}"))?;
    tracing::info!(configuration = NAME, "The API server trusts the webhook now.");
    Ok(())
}

/// What is to be changed; each entry is guarded by its name.
fn change(
    configuration: &MutatingWebhookConfiguration,
    ca_certificates: &str,
) -> Result<Option<JsonPatch>, serde_json::Error> {
    let wanted = ByteString(ca_certificates.as_bytes().to_vec());
    let mut operations: Vec<Value> = Vec::new();
    for (index, webhook) in configuration.webhooks.iter().flatten().enumerate() {
        if webhook.client_config.ca_bundle.as_ref() != Some(&wanted) {
            let path = format!("/webhooks/{index}");
            operations.push(json!({ "op": "test", "path": format!("{path}/name"), "value": webhook.name }));
            operations.push(
                json!({ "op": "add", "path": format!("{path}/clientConfig/caBundle"), "value": wanted }),
            );
        }
    }
    if operations.is_empty() { Ok(None) } else { serde_json::from_value(Value::Array(operations)).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: [Option<&str>; 2]) -> Value {
        let entries = bundles.map(|bundle| {
            let mut config = json!({ "service": { "name": NAME, "namespace": "sluice-system" } });
            if let Some(text) = bundle {
                config["caBundle"] = json!(ByteString(text.as_bytes().to_vec()));
            }
            json!({ "name": "a.sluice.dev", "clientConfig": config, "sideEffects": "None", "admissionReviewVersions": ["v1"] })
        });
        json!({ "metadata": { "name": NAME }, "webhooks": entries })
    }

    #[test]
    fn entries_with_another_ca_or_none_are_changed() {
        let mut document = configuration([None, Some("old")]);
        let typed = serde_json::from_value(document.clone()).unwrap();
        json_patch::patch(&mut document, &change(&typed, "new").unwrap().unwrap()).unwrap();
        assert_eq!(document, configuration([Some("new"), Some("new")]));
    }

    #[test]
    fn nothing_is_written_when_all_is_right() {
        let typed = serde_json::from_value(configuration([Some("new"), Some("new")])).unwrap();
        assert_eq!(change(&typed, "new").unwrap(), None);
    }
}
