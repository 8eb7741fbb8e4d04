//! Reads the JSON object of a request or a response in one pass; the tensors' `data` stays text.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Limits, Parameter, Parameters, ParseError, limits};

/// The fields of a request or a response.
#[derive(Debug, Default)]
pub(crate) struct Document<'a> {
    pub(crate) id: Option<String>,
    pub(crate) model_name: Option<String>,
    pub(crate) model_version: Option<String>,
    pub(crate) parameters: Parameters,
    pub(crate) inputs: Vec<TensorText<'a>>,
    pub(crate) outputs: Vec<TensorText<'a>>,
    /// Whether there was a field that the specification does not define, here or in a tensor.
    pub(crate) unknown_field: bool,
    /// Whether a field or a parameter was `null`, which is read as missing.
    pub(crate) has_nulls: bool,
}

/// The fields of a tensor.
#[derive(Debug, Default)]
pub(crate) struct TensorText<'a> {
    pub(crate) name: Option<String>,
    pub(crate) datatype: Option<String>,
    pub(crate) shape: Option<Vec<u64>>,
    pub(crate) parameters: Parameters,
    pub(crate) data: Option<&'a RawValue>,
    unknown_field: bool,
}

/// Reads a document within `limits`.
pub(crate) fn read<'a>(text: &'a [u8], limits: &Limits) -> Result<Document<'a>, ParseError> {
    let context = Context { limits, exceeded: Cell::new(None), has_nulls: Cell::new(false) };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = DocumentSeed(&context)
        .deserialize(&mut deserializer)
        .and_then(|document| deserializer.end().map(|()| document));
    read.map_err(|error| match context.exceeded.take() {
        Some(limit) => ParseError::limit(limit),
        None => ParseError::malformed(format!("not a valid JSON request: {error}")),
    })
}

/// State that all deserializer seeds share.
struct Context<'l> {
    limits: &'l Limits,
    /// Set where reading stopped because of a limit, because a deserializer's error can carry only text.
    exceeded: Cell<Option<String>>,
    /// Whether a `null` was read.
    has_nulls: Cell<bool>,
}

impl Context<'_> {
    /// Notes that a limit is exceeded, and returns the error that stops reading. `setting`: the setting that raises the limit,
    /// where there is one.
    fn exceed<E: Error>(&self, what: &str, limit: usize, setting: Option<&str>) -> E {
        let setting = setting.map(|setting| format!(" ({setting})")).unwrap_or_default();
        self.exceeded.set(Some(format!("more than {limit} {what}{setting}")));
        E::custom("limit exceeded")
    }

    /// Notes where a value was `null`.
    fn note<T>(&self, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.has_nulls.set(true);
        }
        value
    }
}

/// A key, which is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Stores a field's value, and fails where the field occurs a second time.
fn once<T, E: Error>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), E> {
    if slot.replace(value).is_some() { Err(E::duplicate_field(name)) } else { Ok(()) }
}

struct DocumentSeed<'c>(&'c Context<'c>);

impl<'de> DeserializeSeed<'de> for DocumentSeed<'_> {
    type Value = Document<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DocumentSeed<'_> {
    type Value = Document<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document<'de>, A::Error> {
        let (mut id, mut model_name, mut model_version) = (None, None, None);
        let (mut parameters, mut inputs, mut outputs) = (None, None, None);
        let mut unknown_field = false;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "id" => once(&mut id, "id", self.0.note(map.next_value::<Option<String>>()?))?,
                "model_name" => {
                    once(&mut model_name, "model_name", self.0.note(map.next_value::<Option<String>>()?))?
                }
                "model_version" => once(
                    &mut model_version,
                    "model_version",
                    self.0.note(map.next_value::<Option<String>>()?),
                )?,
                "parameters" => {
                    once(
                        &mut parameters,
                        "parameters",
                        self.0.note(map.next_value_seed(Nullable(ParametersSeed(self.0)))?),
                    )?;
                }
                "inputs" => once(
                    &mut inputs,
                    "inputs",
                    self.0.note(map.next_value_seed(Nullable(TensorsSeed(self.0)))?),
                )?,
                "outputs" => once(
                    &mut outputs,
                    "outputs",
                    self.0.note(map.next_value_seed(Nullable(TensorsSeed(self.0)))?),
                )?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    unknown_field = true;
                }
            }
        }
        let inputs = inputs.flatten().unwrap_or_default();
        let outputs = outputs.flatten().unwrap_or_default();
        unknown_field |= inputs.iter().chain(&outputs).any(|tensor: &TensorText<'_>| tensor.unknown_field);
        Ok(Document {
            id: id.flatten(),
            model_name: model_name.flatten(),
            model_version: model_version.flatten(),
            parameters: parameters.flatten().unwrap_or_default(),
            inputs,
            outputs,
            unknown_field,
            has_nulls: self.0.has_nulls.get(),
        })
    }
}

#[derive(Clone, Copy)]
struct TensorsSeed<'c>(&'c Context<'c>);

impl<'de> DeserializeSeed<'de> for TensorsSeed<'_> {
    type Value = Vec<TensorText<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TensorsSeed<'_> {
    type Value = Vec<TensorText<'de>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of tensors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut tensors = Vec::new();
        while let Some(tensor) = seq.next_element_seed(TensorSeed(self.0))? {
            if tensors.len() == self.0.limits.tensors {
                return Err(self.0.exceed("tensors", self.0.limits.tensors, Some(limits::TENSORS)));
            }
            tensors.push(tensor);
        }
        Ok(tensors)
    }
}

struct TensorSeed<'c>(&'c Context<'c>);

impl<'de> DeserializeSeed<'de> for TensorSeed<'_> {
    type Value = TensorText<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TensorText<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorSeed<'_> {
    type Value = TensorText<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a tensor object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TensorText<'de>, A::Error> {
        let mut tensor = TensorText::default();
        let mut parameters = None;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "name" => once(&mut tensor.name, "name", map.next_value()?)?,
                "datatype" => once(&mut tensor.datatype, "datatype", map.next_value()?)?,
                "shape" => once(&mut tensor.shape, "shape", map.next_value_seed(ShapeSeed(self.0))?)?,
                "data" => once(&mut tensor.data, "data", map.next_value()?)?,
                "parameters" => {
                    once(
                        &mut parameters,
                        "parameters",
                        self.0.note(map.next_value_seed(Nullable(ParametersSeed(self.0)))?),
                    )?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    tensor.unknown_field = true;
                }
            }
        }
        tensor.parameters = parameters.flatten().unwrap_or_default();
        if let Some(data) = tensor.data {
            tensor.data = self.0.note(Some(data).filter(|data| data.get() != "null"));
        }
        Ok(tensor)
    }
}

struct ShapeSeed<'c>(&'c Context<'c>);

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_> {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed<'_> {
    type Value = Vec<u64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
        let mut shape = Vec::new();
        while let Some(dimension) = seq.next_element()? {
            if shape.len() == self.0.limits.rank {
                return Err(self.0.exceed("dimensions", self.0.limits.rank, None));
            }
            shape.push(dimension);
        }
        Ok(shape)
    }
}

struct ParametersSeed<'c>(&'c Context<'c>);

impl<'de> DeserializeSeed<'de> for ParametersSeed<'_> {
    type Value = Parameters;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parameters, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ParametersSeed<'_> {
    type Value = Parameters;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut parameters = Parameters::new();
        while let Some(name) = map.next_key::<String>()? {
            if parameters.len() == self.0.limits.parameters {
                return Err(self.0.exceed("parameters", self.0.limits.parameters, Some(limits::PARAMETERS)));
            }
            // A null parameter counts as missing.
            if let Some(value) = self.0.note(map.next_value::<Option<Parameter>>()?)
                && parameters.insert(name, value).is_some()
            {
                return Err(A::Error::custom("a parameter occurs twice"));
            }
        }
        Ok(parameters)
    }
}

/// Reads `null` as `None`.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("null or a value")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}
