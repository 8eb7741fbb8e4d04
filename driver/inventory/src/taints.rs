//! Taints of devices, and the tolerations of requests.
use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};

/// Returns whether a toleration tolerates a taint of a device. An empty key tolerates every key, an empty effect every effect, and
/// `Exists` every value.
pub(crate) fn is_tolerated(taint: &DeviceTaint, toleration: &DeviceToleration) -> bool {
    let unset_or = |text: &Option<String>, wanted: &str| {
        text.as_ref().is_none_or(|text| text.is_empty() || text == wanted)
    };
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    unset_or(&toleration.effect, &taint.effect)
        && unset_or(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => value(&toleration.value) == value(&taint.value),
            Some("Exists") => true,
            Some(_) => false,
        }
}
