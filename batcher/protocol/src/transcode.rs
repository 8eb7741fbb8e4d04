//! Transcodes tensor elements from JSON text to little-endian bytes and back, which happens only where a batch mixes wire
//! formats.
//!
//! FP32 is parsed directly as f32 (via f64 it would be rounded twice) and printed with the fewest digits that read back to
//! the same bits.

use bytes::Bytes;

use crate::Datatype;
use crate::json::{lexer, write};

/// Checks that raw bytes hold exactly `elements` elements.
pub(crate) fn check_raw(raw: &[u8], datatype: Datatype, elements: usize) -> Result<(), String> {
    let Some(size) = datatype.size_bytes() else {
        let mut found = 0usize;
        for element in RawStrings(raw) {
            element?;
            found += 1;
        }
        return if found == elements {
            Ok(())
        } else {
            Err(format!("holds {found} BYTES elements where its shape has {elements}"))
        };
    };
    let expected = elements.checked_mul(size).ok_or("has a shape beyond the address space")?;
    if raw.len() == expected {
        Ok(())
    } else {
        Err(format!("holds {} bytes where its shape and datatype need {expected}", raw.len()))
    }
}

/// Cuts raw bytes, which were checked before, into runs of elements; `None` where there are fewer elements than that.
pub(crate) fn split_raw(
    raw: &Bytes,
    datatype: Datatype,
    runs: impl Iterator<Item = usize>,
) -> Option<Vec<Bytes>> {
    let mut at = 0usize;
    let mut cut = |end: usize| {
        let piece = (end <= raw.len()).then(|| raw.slice(at..end));
        at = end;
        piece
    };
    match datatype.size_bytes() {
        Some(size) => {
            let mut end = 0usize;
            runs.map(|elements| {
                end = end.checked_add(elements.checked_mul(size)?)?;
                cut(end)
            })
            .collect()
        }
        None => {
            let mut strings = RawStrings(raw);
            runs.map(|elements| {
                for _ in 0..elements {
                    strings.next()?.ok()?;
                }
                cut(raw.len() - strings.0.len())
            })
            .collect()
        }
    }
}

/// Iterator over the bytes of BYTES elements, each of which has a 4-byte little-endian length before it.
struct RawStrings<'a>(&'a [u8]);

impl<'a> Iterator for RawStrings<'a> {
    type Item = Result<&'a [u8], String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let element = self
            .0
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
        match element {
            Some((element, rest)) => {
                self.0 = rest;
                Some(Ok(element))
            }
            None => {
                self.0 = &[];
                Some(Err("has a BYTES element whose length goes beyond the data".to_owned()))
            }
        }
    }
}

/// Returns the elements of a JSON array's text (of any nesting) as raw bytes.
///
/// # Errors
/// Fails for an element that the datatype cannot hold, and for a datatype that JSON cannot carry.
pub(crate) fn json_to_raw(text: &[u8], datatype: Datatype) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(text.len());
    macro_rules! integers {
        ($integer:ty) => {
            for scalar in lexer::scalars(text) {
                let value: $integer = parse(scalar).ok_or_else(|| not_a(scalar, datatype))?;
                out.extend_from_slice(&value.to_le_bytes());
            }
        };
    }
    macro_rules! floats {
        ($float:ty) => {
            for scalar in lexer::scalars(text) {
                let value = match scalar {
                    b"NaN" => <$float>::NAN,
                    b"Infinity" => <$float>::INFINITY,
                    b"-Infinity" => <$float>::NEG_INFINITY,
                    // A number that is too large parses as infinity, which the client did not write.
                    _ => parse(scalar)
                        .filter(|value: &$float| value.is_finite())
                        .ok_or_else(|| not_a(scalar, datatype))?,
                };
                out.extend_from_slice(&value.to_le_bytes());
            }
        };
    }
    match datatype {
        Datatype::Bool => {
            for scalar in lexer::scalars(text) {
                match scalar {
                    b"true" => out.push(1),
                    b"false" => out.push(0),
                    _ => return Err(not_a(scalar, datatype)),
                }
            }
        }
        Datatype::Uint8 => integers!(u8),
        Datatype::Uint16 => integers!(u16),
        Datatype::Uint32 => integers!(u32),
        Datatype::Uint64 => integers!(u64),
        Datatype::Int8 => integers!(i8),
        Datatype::Int16 => integers!(i16),
        Datatype::Int32 => integers!(i32),
        Datatype::Int64 => integers!(i64),
        Datatype::Fp32 => floats!(f32),
        Datatype::Fp64 => floats!(f64),
        Datatype::Bytes => {
            for scalar in lexer::scalars(text) {
                push_string(&mut out, scalar).ok_or_else(|| not_a(scalar, datatype))?;
            }
        }
        Datatype::Fp16 | Datatype::Bf16 => return Err(format!("{} has no JSON form", datatype.name())),
    }
    Ok(Bytes::from(out))
}

fn parse<T: std::str::FromStr>(scalar: &[u8]) -> Option<T> {
    str::from_utf8(scalar).ok()?.parse().ok()
}

/// Appends a JSON string literal as a BYTES element.
fn push_string(out: &mut Vec<u8>, literal: &[u8]) -> Option<()> {
    let plain = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let unescaped: String;
    let text = if plain.contains(&b'\\') {
        unescaped = serde_json::from_slice(literal).ok()?;
        unescaped.as_bytes()
    } else {
        plain
    };
    out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
    out.extend_from_slice(text);
    Some(())
}

fn not_a(scalar: &[u8], datatype: Datatype) -> String {
    let shown = String::from_utf8_lossy(&scalar[..scalar.len().min(40)]);
    format!("{shown} is not a value of {}", datatype.name())
}

/// Appends raw elements, which were checked before, as JSON, separated by commas, without brackets.
///
/// # Errors
/// Fails for a datatype that JSON cannot carry and for a BYTES element that is not UTF-8.
pub(crate) fn raw_to_json(raw: &[u8], datatype: Datatype, out: &mut Vec<u8>) -> Result<(), String> {
    macro_rules! numbers {
        ($number:ty, $write:path) => {{
            let (elements, _) = raw.as_chunks();
            for (at, element) in elements.iter().enumerate() {
                separate(out, at);
                $write(out, <$number>::from_le_bytes(*element));
            }
        }};
    }
    match datatype {
        Datatype::Bool => {
            for (at, element) in raw.iter().enumerate() {
                separate(out, at);
                out.extend_from_slice(if *element == 0 { b"false" } else { b"true" });
            }
        }
        Datatype::Uint8 => numbers!(u8, write::integer),
        Datatype::Uint16 => numbers!(u16, write::integer),
        Datatype::Uint32 => numbers!(u32, write::integer),
        Datatype::Uint64 => numbers!(u64, write::integer),
        Datatype::Int8 => numbers!(i8, write::integer),
        Datatype::Int16 => numbers!(i16, write::integer),
        Datatype::Int32 => numbers!(i32, write::integer),
        Datatype::Int64 => numbers!(i64, write::integer),
        Datatype::Fp32 => numbers!(f32, write::float),
        Datatype::Fp64 => numbers!(f64, write::float),
        Datatype::Bytes => {
            for (at, element) in RawStrings(raw).enumerate() {
                let text = str::from_utf8(element?)
                    .map_err(|_| format!("BYTES element {at} is not UTF-8, which JSON cannot carry"))?;
                separate(out, at);
                write::string(out, text);
            }
        }
        Datatype::Fp16 | Datatype::Bf16 => return Err(format!("{} has no JSON form", datatype.name())),
    }
    Ok(())
}

fn separate(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(text: &str, datatype: Datatype) -> Result<String, String> {
        let raw = json_to_raw(text.as_bytes(), datatype)?;
        let mut out = Vec::new();
        raw_to_json(&raw, datatype, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_survive_the_way_there_and_back() {
        for (text, datatype, back) in [
            (
                "[9007199254740993,-9223372036854775808]",
                Datatype::Int64,
                "9007199254740993,-9223372036854775808",
            ),
            ("[18446744073709551615]", Datatype::Uint64, "18446744073709551615"),
            ("[[0.1],[1e-7]]", Datatype::Fp32, "0.1,1e-7"),
            ("[0.1000000014901161,3]", Datatype::Fp32, "0.1,3.0"),
            ("[NaN,-Infinity,Infinity]", Datatype::Fp64, "NaN,-Infinity,Infinity"),
            ("[true,false]", Datatype::Bool, "true,false"),
            (r#"["a\"\u00e9","",",]"]"#, Datatype::Bytes, r#""a\"é","",",]""#),
        ] {
            assert_eq!(there_and_back(text, datatype).as_deref(), Ok(back));
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (text, datatype) in [
            ("[256]", Datatype::Uint8),
            ("[-1]", Datatype::Uint64),
            ("[9223372036854775808]", Datatype::Int64),
            ("[1.0]", Datatype::Int32),
            ("[1e39]", Datatype::Fp32),
            ("[1]", Datatype::Bool),
            ("[1.0]", Datatype::Bf16),
        ] {
            assert!(json_to_raw(text.as_bytes(), datatype).is_err(), "{text} became {datatype:?}");
        }
    }

    #[test]
    fn lengths_of_raw_bytes_elements_are_checked() {
        let two = b"\x01\0\0\0a\x00\0\0\0";
        assert_eq!(check_raw(two, Datatype::Bytes, 2), Ok(()));
        assert!(check_raw(two, Datatype::Bytes, 1).is_err());
        assert!(check_raw(b"\xff\xff\xff\xffa", Datatype::Bytes, 1).is_err());
        assert!(check_raw(b"\x01\0", Datatype::Bytes, 1).is_err());
        assert!(check_raw(&[0; 7], Datatype::Fp32, 2).is_err());
    }
}
