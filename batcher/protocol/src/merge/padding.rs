//! The row that is repeated to pad a batch.

use crate::json::lexer;
use crate::{InferRequest, JsonLayout, MergeError, Tensor, TensorData, transcode};

/// Returns the inputs of the request's last row. `index`: the request's position, for errors.
pub(super) fn last_row(request: &InferRequest, index: usize) -> Result<Vec<Tensor>, MergeError> {
    if let Some(alone) = request.alone {
        let reason = format!("the request goes alone ({})", alone.as_str());
        return Err(MergeError { index, reason });
    }
    let last = |input: &Tensor| {
        let data = last_of(input, request.rows)
            .ok_or_else(|| MergeError { index, reason: format!("input '{}' has no last row", input.name) })?;
        let mut shape = input.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = 1;
        }
        Ok(Tensor { shape, data, ..input.clone() })
    };
    request.inputs.iter().map(last).collect()
}

fn last_of(input: &Tensor, rows: usize) -> Option<TensorData> {
    let per_row = input.elements_per_row();
    let before = rows.checked_sub(1)?;
    Some(match &input.data {
        TensorData::Raw(raw) => {
            let runs = [before.checked_mul(per_row)?, per_row];
            TensorData::Raw(transcode::split_raw(raw, input.datatype, runs.into_iter())?.pop()?)
        }
        TensorData::Json { text, layout } => {
            let runs = match layout {
                JsonLayout::Flat => [before.checked_mul(per_row)?, per_row],
                JsonLayout::Nested => [before, 1],
            };
            let last = lexer::runs(text, runs.into_iter())?.pop()?;
            // The text of a tensor includes its brackets.
            TensorData::Json { text: [b"[", &text[last], b"]"].concat().into(), layout: *layout }
        }
    })
}
