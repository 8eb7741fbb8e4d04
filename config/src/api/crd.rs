//! The CustomResourceDefinition as YAML, made from the Rust types: `config/crd` holds what this says.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::InferenceAutoscaler;
use sluice_process::settings::Unit;

/// Head of the generated file.
const HEAD: &str = "\
# Made from config/src/api; do not edit. After a change there:
# REGENERATE=1 cargo test -p sluice-config --all-features --test crds_are_current
";

/// The definition of `InferenceAutoscaler` as it is installed.
///
/// # Errors
/// Never for types that YAML can hold.
pub fn inference_autoscaler_yaml() -> Result<String, String> {
    let mut crd = serde_json::to_value(InferenceAutoscaler::crd()).map_err(|error| error.to_string())?;
    for_kubernetes(&mut crd);
    with_units(&mut crd);
    let yaml = serde_saphyr::to_string(&crd).map_err(|error| error.to_string())?;
    Ok(format!("{HEAD}{yaml}"))
}

/// Kubernetes knows no unsigned formats and warns of them at each installation: they become int32, which
/// its replica counts are too.
fn for_kubernetes(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let unsigned = matches!(fields.get("format").and_then(Value::as_str), Some("uint32" | "uint64"));
            if unsigned {
                fields.insert("format".to_owned(), json!("int32"));
            }
            for limit in ["minimum", "maximum"] {
                // 1.0 and 1 are the same number, but only one of them looks like a limit of an integer.
                if let Some(whole) = fields.get(limit).and_then(Value::as_f64).and_then(whole) {
                    fields.insert(limit.to_owned(), json!(whole));
                }
            }
            fields.values_mut().for_each(for_kubernetes);
        }
        Value::Array(items) => items.iter_mut().for_each(for_kubernetes),
        _ => {}
    }
}

/// Lets times be texts, and refuses these by a rule of its own: what an API server says of `300ms` where an integer is
/// asked for names no unit.
fn with_units(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(with_units);
        }
        return;
    };
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        for (name, property) in properties.iter_mut() {
            let unit = match Unit::of(name) {
                unit @ (Unit::Milliseconds | Unit::Seconds) => unit,
                _ => continue,
            };
            if let Value::Object(property) = property
                && property.get("type") == Some(&json!("integer"))
            {
                property.remove("type");
                property.remove("format");
                property.entry("maximum").or_insert(json!(i32::MAX));
                property.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
                property.insert("x-kubernetes-int-or-string".to_owned(), json!(true));
                let words = unit.words();
                let example = if unit == Unit::Milliseconds { 300 } else { 30 };
                let message = format!("{name}: {words}, e.g. {example}");
                property.insert(
                    "x-kubernetes-validations".to_owned(),
                    json!([{"rule": "type(self) == int", "message": message}]),
                );
            }
        }
    }
    fields.values_mut().for_each(with_units);
}

fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked: small and without a fraction")]
    let whole = number as i64;
    (number.fract() == 0.0 && number.abs() < 1e15).then_some(whole)
}
