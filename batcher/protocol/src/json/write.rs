//! Writes the small parts of a JSON document. Tensors' data is written by the callers.

use crate::{Parameter, Parameters, Tensor};

/// Writes a string literal.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    // Nearly all strings have nothing to escape, and are written without the serializer.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

/// Writes the beginning of an object, and the id where there is one.
pub(crate) fn opening(out: &mut Vec<u8>, id: Option<&str>) {
    out.push(b'{');
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\":");
        string(out, id);
        out.push(b',');
    }
}

/// Writes an integer.
pub(crate) fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes `,"parameters":{…}` with those in `extra` first; nothing where there are none.
pub(crate) fn parameters(out: &mut Vec<u8>, parameters: &Parameters, extra: &[(&str, Parameter)]) {
    let own = parameters.iter().map(|(name, value)| (name.as_str(), value));
    let mut separator = ",\"parameters\":{";
    for (name, value) in extra.iter().map(|(name, value)| (*name, value)).chain(own) {
        out.extend_from_slice(separator.as_bytes());
        separator = ",";
        string(out, name);
        out.push(b':');
        match value {
            Parameter::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Parameter::Int(value) => integer(out, *value),
            Parameter::Uint(value) => integer(out, *value),
            Parameter::Double(value) => float(out, *value),
            Parameter::Text(value) => string(out, value),
        }
    }
    if separator == "," {
        out.push(b'}');
    }
}

/// Writes a float as the shortest text that reads back to the same bits; `NaN`, `Infinity` and `-Infinity` as bare words.
pub(crate) fn float<F: ryu::Float + Into<f64> + Copy>(out: &mut Vec<u8>, value: F) {
    let wide: f64 = value.into();
    let mut buffer = ryu::Buffer::new();
    let text = match wide {
        _ if wide.is_nan() => "NaN",
        _ if wide == f64::INFINITY => "Infinity",
        _ if wide == f64::NEG_INFINITY => "-Infinity",
        _ => buffer.format_finite(value),
    };
    out.extend_from_slice(text.as_bytes());
}

/// Writes `{"name":…,"datatype":…,"shape":[…]` of a tensor, and leaves its object open.
pub(crate) fn tensor_head(out: &mut Vec<u8>, tensor: &Tensor, shape: &[u64]) {
    out.extend_from_slice(b"{\"name\":");
    string(out, &tensor.name);
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(tensor.datatype.name().as_bytes());
    out.extend_from_slice(b"\",\"shape\":[");
    for (at, dimension) in shape.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        integer(out, *dimension);
    }
    out.push(b']');
}
