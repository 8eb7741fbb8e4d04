//! What a model's metadata says of its tensors: what forms that do not name them (V1, raw binary) need.

use crate::Datatype;

/// Inputs and outputs of a model, from its metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelSignature {
    /// All inputs.
    pub inputs: Vec<TensorSignature>,
    /// All outputs.
    pub outputs: Vec<TensorSignature>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSignature {
    /// Its name.
    pub name: String,
    /// Its datatype.
    pub datatype: Datatype,
    /// Its dimensions; `None` where one may vary (-1 in the metadata). The first is the batch dimension where it may.
    pub shape: Vec<Option<u64>>,
}

impl TensorSignature {
    /// Whether a tensor of this shape is such a tensor.
    pub(crate) fn admits(&self, shape: &[u64]) -> bool {
        let mut dims = self.shape.iter().zip(shape);
        self.shape.len() == shape.len() && dims.all(|(known, dim)| known.is_none_or(|known| known == *dim))
    }

    /// Dimensions of one row, where dimension 0 counts rows.
    pub(crate) fn row_shape(&self) -> Option<&[Option<u64>]> {
        match self.shape.split_first() {
            Some((None, row)) => Some(row),
            _ => None,
        }
    }
}
