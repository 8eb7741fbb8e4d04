//! Inputs and outputs of a model by its metadata, for wire formats whose requests do not describe them (V1, raw binary).

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
    /// Its dimensions; `None` for one that may vary (-1 in the metadata). If the first may vary, it is the batch dimension.
    pub shape: Vec<Option<u64>>,
}

impl TensorSignature {
    /// Returns whether a tensor of this shape fits.
    pub(crate) fn admits(&self, shape: &[u64]) -> bool {
        let mut dims = self.shape.iter().zip(shape);
        self.shape.len() == shape.len() && dims.all(|(known, dim)| known.is_none_or(|known| known == *dim))
    }

    /// Returns the dimensions of one row; `None` where dimension 0 does not count rows.
    pub(crate) fn row_shape(&self) -> Option<&[Option<u64>]> {
        match self.shape.split_first() {
            Some((None, row)) => Some(row),
            _ => None,
        }
    }
}
