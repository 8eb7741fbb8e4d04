//! Turns typed tensor contents into raw bytes. The reverse is not needed, because raw contents can carry every datatype.

use bytes::Bytes;

use super::InferTensorContents;
use crate::Datatype;

/// Returns the elements of typed contents as little-endian bytes.
///
/// # Errors
/// Fails for an element out of the datatype's range and for a datatype that has no typed contents.
pub(crate) fn to_raw(contents: &InferTensorContents, datatype: Datatype) -> Result<Bytes, String> {
    let mut out = Vec::new();
    macro_rules! plain {
        ($field:ident) => {{
            out.reserve(size_of_val(&*contents.$field));
            contents.$field.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()))
        }};
    }
    macro_rules! narrow {
        ($field:ident, $integer:ty) => {
            for value in &contents.$field {
                let value = <$integer>::try_from(*value)
                    .map_err(|_| format!("{value} is not a value of {}", datatype.name()))?;
                out.extend_from_slice(&value.to_le_bytes());
            }
        };
    }
    match datatype {
        Datatype::Bool => out.extend(contents.bool_contents.iter().map(|value| u8::from(*value))),
        Datatype::Uint8 => narrow!(uint_contents, u8),
        Datatype::Uint16 => narrow!(uint_contents, u16),
        Datatype::Uint32 => plain!(uint_contents),
        Datatype::Uint64 => plain!(uint64_contents),
        Datatype::Int8 => narrow!(int_contents, i8),
        Datatype::Int16 => narrow!(int_contents, i16),
        Datatype::Int32 => plain!(int_contents),
        Datatype::Int64 => plain!(int64_contents),
        Datatype::Fp32 => plain!(fp32_contents),
        Datatype::Fp64 => plain!(fp64_contents),
        Datatype::Bytes => {
            for element in &contents.bytes_contents {
                let length = u32::try_from(element.len()).map_err(|_| "a BYTES element is beyond 4 GiB")?;
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(element);
            }
        }
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(format!("{} has no typed contents; send raw contents", datatype.name()));
        }
    }
    Ok(Bytes::from(out))
}
