//! Writes V2 outputs as the `predictions` of a V1 client: bare values where there is one output, otherwise objects with the
//! outputs by name.

use crate::json::{lexer, write};
use crate::split::{OutputPart, Piece};
use crate::{InferRequest, JsonLayout, PartError, ResponsePart, TensorData, WireFormat, transcode};

/// Maximum empty arrays that a tensor without elements is written as: it has no bytes that would bound them.
const MAX_EMPTY_BRACKETS: u64 = 1 << 20;

pub(super) fn write(request: &InferRequest, outputs: &[OutputPart<'_>]) -> Result<ResponsePart, PartError> {
    let columns = outputs.iter().map(|part| Column::of(part, request.rows)).collect::<Result<Vec<_>, _>>()?;
    let mut out = b"{\"predictions\":[".to_vec();
    match &columns[..] {
        [column] if column.is_spelled_out => out.extend_from_slice(&column.text),
        _ => {
            let mut scalars: Vec<_> = columns.iter().map(|column| lexer::scalars(&column.text)).collect();
            for row in 0..request.rows {
                if row > 0 {
                    out.push(b',');
                }
                if let ([column], [scalars]) = (&columns[..], &mut scalars[..]) {
                    nest(&mut out, &column.part.shape[1..], scalars);
                    continue;
                }
                out.push(b'{');
                for (at, (column, scalars)) in columns.iter().zip(&mut scalars).enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write::string(&mut out, &column.part.output.name);
                    out.push(b':');
                    nest(&mut out, &column.part.shape[1..], scalars);
                }
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b"]}");
    let body_bytes = out.len();
    let chunks = vec![out.into()];
    Ok(ResponsePart {
        format: WireFormat::V1,
        header_length: None,
        content_type: "application/json",
        chunks,
        body_bytes,
    })
}

/// The client's rows of one output, as JSON items.
struct Column<'a> {
    part: &'a OutputPart<'a>,
    text: std::borrow::Cow<'a, [u8]>,
    /// Whether each item of `text` is a whole row.
    is_spelled_out: bool,
}

impl<'a> Column<'a> {
    fn of(part: &'a OutputPart<'a>, rows: usize) -> Result<Self, PartError> {
        let error = |reason: String| PartError { output: part.output.name.clone(), reason };
        if part.shape.first() != Some(&(rows as u64)) {
            return Err(error(format!("shape {:?} is not one row per instance", part.shape)));
        }
        if part.output.elements() == 0 && brackets(&part.shape) > MAX_EMPTY_BRACKETS {
            return Err(error(format!("shape {:?} is too large to write", part.shape)));
        }
        let nested = matches!(part.output.data, TensorData::Json { layout: JsonLayout::Nested, .. });
        let text = match part.piece {
            Piece::Json(items) => std::borrow::Cow::Borrowed(&items[..]),
            Piece::Raw(raw) => {
                let mut text = Vec::with_capacity(raw.len() * 2);
                transcode::raw_to_json(raw, part.output.datatype, &mut text).map_err(error)?;
                text.into()
            }
        };
        Ok(Self { part, text, is_spelled_out: nested || part.shape.len() == 1 })
    }
}

/// Returns the number of arrays that a tensor without elements is written as: `[]` within `[]`.
fn brackets(shape: &[u64]) -> u64 {
    shape.iter().take_while(|dim| **dim > 0).fold(1, |product, dim| product.saturating_mul(*dim))
}

/// Appends one value of this shape, with the next scalars of `scalars`.
fn nest<'a>(out: &mut Vec<u8>, shape: &[u64], scalars: &mut impl Iterator<Item = &'a [u8]>) {
    let Some((length, inner)) = shape.split_first() else {
        out.extend_from_slice(scalars.next().unwrap_or(b"null"));
        return;
    };
    out.push(b'[');
    for at in 0..*length {
        if at > 0 {
            out.push(b',');
        }
        nest(out, inner, scalars);
    }
    out.push(b']');
}
