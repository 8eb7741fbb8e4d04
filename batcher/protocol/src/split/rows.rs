//! Cuts one output by rows.

use super::Piece;
use crate::json::lexer;
use crate::{BatchRows, JsonLayout, SplitError, Tensor, TensorData, transcode};

/// Returns the piece of each request and, behind them, that of the padding, where there is any. The only request of a batch
/// without padding gets the whole output, whatever its shape.
pub(super) fn cut(output: &Tensor, rows: &BatchRows) -> Result<Vec<Piece>, SplitError> {
    if is_whole(rows) {
        return Ok(vec![match &output.data {
            TensorData::Raw(raw) => Piece::Raw(raw.clone()),
            TensorData::Json { text, .. } => Piece::Json(text.slice(lexer::inner_range(text))),
        }]);
    }
    let total = rows.total();
    let error = || SplitError { output: output.name.clone(), shape: output.shape.clone(), rows: total };
    if output.rows() != Some(total as u64) {
        return Err(error());
    }
    let per_row = output.elements_per_row();
    let elements = rows.runs().map(|rows| rows * per_row);
    let pieces = match &output.data {
        TensorData::Raw(raw) => transcode::split_raw(raw, output.datatype, elements)
            .map(|pieces| pieces.into_iter().map(Piece::Raw).collect()),
        TensorData::Json { text, layout } => {
            let runs = match layout {
                JsonLayout::Flat => lexer::runs(text, elements),
                JsonLayout::Nested => lexer::runs(text, rows.runs()),
            };
            runs.map(|runs| runs.into_iter().map(|run| Piece::Json(text.slice(run))).collect())
        }
    };
    pieces.ok_or_else(error)
}

/// Returns the shape of the piece of request `index`.
pub(super) fn shape(output: &Tensor, rows: &BatchRows, index: usize) -> Vec<u64> {
    let mut shape = output.shape.clone();
    if !is_whole(rows)
        && let Some(first) = shape.first_mut()
    {
        *first = rows.requests[index] as u64;
    }
    shape
}

fn is_whole(rows: &BatchRows) -> bool {
    rows.requests.len() == 1 && rows.padding == 0
}
