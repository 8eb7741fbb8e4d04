//! The settings as users write them: one flat map, in which no group shows and unknown names are errors.
//!
//! serde's `flatten` cannot be used for that: it does not work with `deny_unknown_fields`, and loses the place of an error.

use std::fmt;
use std::sync::LazyLock;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Settings;

static NAMES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| Settings::rows().map(|row| row.setting.name).collect());

/// Name of a setting. It is checked where it is read, so that an error has the place of the name.
struct Name(&'static str);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a setting")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                let name = NAMES.iter().find(|name| **name == text);
                name.map(|name| Name(name)).ok_or_else(|| E::unknown_field(text, &NAMES))
            }
        }

        deserializer.deserialize_identifier(NameVisitor)
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SettingsVisitor;

        impl<'de> Visitor<'de> for SettingsVisitor {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::default();
                let mut seen = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if seen.contains(&name) {
                        return Err(A::Error::duplicate_field(name));
                    }
                    seen.push(name);
                    settings.read(name, &mut map)?;
                }
                Ok(settings)
            }
        }

        deserializer.deserialize_struct("Settings", &NAMES, SettingsVisitor)
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(NAMES.len()))?;
        self.write(&mut map)?;
        map.end()
    }
}
