//! Serialises floats of records. JSON has neither NaN nor infinity, but a broken metric may have them, and its record must
//! replay. Finite values are written as numbers, the others as the strings "NaN", "+Inf" and "-Inf".
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;

/// Serialises a float; for `#[serde(with = "float")]`.
///
/// # Errors
/// Returns the serializer's error.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else if value.is_nan() {
        serializer.serialize_str("NaN")
    } else {
        serializer.serialize_str(if *value > 0.0 { "+Inf" } else { "-Inf" })
    }
}

/// Deserialises a float; for `#[serde(with = "float")]`.
///
/// # Errors
/// Fails for anything but a number or one of the three strings.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    struct Float;
    impl Visitor<'_> for Float {
        type Value = f64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, or \"NaN\", \"+Inf\" or \"-Inf\"")
        }
        fn visit_f64<E: Error>(self, v: f64) -> Result<f64, E> {
            Ok(v)
        }
        #[expect(clippy::cast_precision_loss, reason = "as serde itself reads an integer into a float")]
        fn visit_u64<E: Error>(self, v: u64) -> Result<f64, E> {
            Ok(v as f64)
        }
        #[expect(clippy::cast_precision_loss, reason = "as serde itself reads an integer into a float")]
        fn visit_i64<E: Error>(self, v: i64) -> Result<f64, E> {
            Ok(v as f64)
        }
        fn visit_str<E: Error>(self, v: &str) -> Result<f64, E> {
            match v {
                "NaN" => Ok(f64::NAN),
                "+Inf" => Ok(f64::INFINITY),
                "-Inf" => Ok(f64::NEG_INFINITY),
                other => Err(E::custom(format!("{other:?} is not a number, \"NaN\", \"+Inf\" or \"-Inf\""))),
            }
        }
    }
    deserializer.deserialize_any(Float)
}
