//! Publishes the CA certificates to the API server, in `caBundle` of the webhook's configuration.

use std::time::{Duration, Instant};

use anyhow::Context;
use json_patch::Patch as JsonPatch;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_process::events::{EventRecorder, KubernetesEvent};

use super::NAME;

/// Pause after the first repair; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Time without a repair after which the next one counts as the first again.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Number of repairs in a row that shows that another writer changes `caBundle`.
const RIVAL: u32 = 3;

/// Writes the CA certificates into every entry of the webhook's configuration that has others. Where another writer
/// changes them again and again, it may write nothing and return the time until the next write; else `None`.
pub(super) async fn publish(
    configurations: &Api<MutatingWebhookConfiguration>,
    ca_certificates: &str,
    repairs: &mut Repairs,
    events: &EventRecorder,
) -> anyhow::Result<Option<Duration>> {
    let found = configurations
        .get_opt(NAME)
        .await
        .with_context(|| format!("reading MutatingWebhookConfiguration {NAME}"))?;
    let configuration = found.with_context(|| {
        format!(
            "there is no MutatingWebhookConfiguration {NAME}; install it: kubectl apply -k config/default"
        )
    })?;
    let Some(patch) = change(&configuration, ca_certificates)? else { return Ok(None) };
    if let Some(wait) = repairs.wait(ca_certificates, Instant::now()) {
        return Ok(Some(wait));
    }
    configurations
        .patch(NAME, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .with_context(|| format!("writing caBundle of MutatingWebhookConfiguration {NAME}"))?;
    match repairs.wrote(ca_certificates, Instant::now()) {
        Wrote::First => tracing::info!(configuration = NAME, "The API server trusts the webhook now."),
        Wrote::RivalSeen => {
            let note = "another writer changes caBundle again and again, so that pods that opted in cannot be made for \
                        moments; it is repaired more and more seldom. Exclude \
                        webhooks[*].clientConfig.caBundle from what that writer (GitOps, cert-manager) manages";
            tracing::warn!(configuration = NAME, "{note}");
            events.record(reference(&configuration), contested(note));
        }
        Wrote::Again => tracing::debug!(configuration = NAME, "caBundle was repaired again."),
    }
    Ok(None)
}

/// Returns the Kubernetes Event that says that another writer changes caBundle too.
fn contested(note: &str) -> KubernetesEvent {
    KubernetesEvent {
        is_warning: true,
        reason: "CaBundleContested".to_owned(),
        action: "Repair".to_owned(),
        note: note.to_owned(),
    }
}

/// Returns the reference by which an Event names the webhook's configuration.
fn reference(configuration: &MutatingWebhookConfiguration) -> ObjectReference {
    ObjectReference {
        api_version: Some("admissionregistration.k8s.io/v1".to_owned()),
        kind: Some("MutatingWebhookConfiguration".to_owned()),
        name: Some(NAME.to_owned()),
        uid: configuration.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Repairs of caBundle by this process.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// CA certificates that were written last, and when.
    last: Option<(String, Instant)>,
    /// Number of times that the same certificates were written, each within [`FORGOTTEN`] of the time before.
    in_a_row: u32,
}

/// Place of a write among those of the same certificates.
#[derive(Debug, PartialEq, Eq)]
enum Wrote {
    /// First write of these certificates, or the first after a long time.
    First,
    /// Write that shows that another writer exists; one in each row of repairs.
    RivalSeen,
    /// Any other write.
    Again,
}

impl Repairs {
    /// Returns the time until `ca` may be written; `None` where it may be written now.
    fn wait(&self, ca: &str, now: Instant) -> Option<Duration> {
        let (last, at) = self.last.as_ref()?;
        if last != ca {
            return None;
        }
        let pause =
            FIRST_PAUSE.saturating_mul(1 << self.in_a_row.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        pause.checked_sub(now.saturating_duration_since(*at)).filter(|left| !left.is_zero())
    }

    fn wrote(&mut self, ca: &str, now: Instant) -> Wrote {
        let is_same = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| last == ca && now.saturating_duration_since(*at) < FORGOTTEN);
        self.in_a_row = if is_same { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some((ca.to_owned(), now));
        match self.in_a_row {
            1 => Wrote::First,
            RIVAL => Wrote::RivalSeen,
            _ => Wrote::Again,
        }
    }
}

/// Returns the patch that corrects the entries, each guarded by its name; `None` where all are correct.
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

    #[test]
    fn a_rival_is_told_once_and_met_more_and_more_seldom() {
        let (mut repairs, mut now) = (Repairs::default(), Instant::now());
        let mut told = Vec::new();
        let mut writes = 0;
        // Another writer changes it every second for a day.
        for _ in 0..86_400 {
            now += Duration::from_secs(1);
            if repairs.wait("ours", now).is_none() {
                writes += 1;
                told.push(repairs.wrote("ours", now));
            }
        }
        assert!((140..170).contains(&writes), "{writes} writes");
        assert_eq!(told.iter().filter(|wrote| **wrote == Wrote::RivalSeen).count(), 1);
        assert_eq!(repairs.wait("a new CA", now), None, "that is no repair");
        now += FORGOTTEN;
        assert_eq!(repairs.wrote("ours", now), Wrote::First);
        assert_eq!(repairs.wait("ours", now + Duration::from_secs(1)), None);
    }
}
