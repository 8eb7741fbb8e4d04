//! A tensor as it was received: JSON text or raw bytes, both slices of the body.

use bytes::Bytes;

use crate::{Datatype, Limits, Parameters, ParseError};

/// One input or output tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Datatype of its elements.
    pub datatype: Datatype,
    /// Dimensions; dimension 0 counts rows.
    pub shape: Vec<u64>,
    /// Its parameters, without those that only describe the encoding (`binary_data_size`).
    pub parameters: Parameters,
    /// Its elements, in row-major order; their number has been checked against `shape`.
    pub data: TensorData,
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// The JSON array as it was written, brackets included. `NaN`, `Infinity` and `-Infinity` may occur as elements.
    Json {
        /// The text, valid UTF-8.
        text: Bytes,
        /// Flat or nested.
        layout: JsonLayout,
    },
    /// Little-endian elements without padding; BYTES with a 4-byte length before each element.
    Raw(Bytes),
}

/// How a tensor's JSON `data` is bracketed. A tensor of rank 1 is [`JsonLayout::Flat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonLayout {
    /// One array of all elements in row-major order.
    Flat,
    /// Arrays within arrays, as many levels as dimensions.
    Nested,
}

impl Tensor {
    /// Returns the number of rows, which is dimension 0; `None` for a scalar (rank 0).
    pub fn rows(&self) -> Option<u64> {
        self.shape.first().copied()
    }

    /// Returns the number of elements; the product was checked when the tensor was read.
    pub fn elements(&self) -> usize {
        self.shape.iter().fold(1, |product, &dim| product.saturating_mul(dim as usize))
    }

    /// Returns the number of elements of one row.
    pub fn elements_per_row(&self) -> usize {
        self.shape.iter().skip(1).fold(1, |product, &dim| product.saturating_mul(dim as usize))
    }
}

/// Returns the number of elements of a shape, and fails where the shape exceeds `limits`.
pub(crate) fn checked_elements(shape: &[u64], limits: &Limits) -> Result<usize, ParseError> {
    if shape.len() > limits.rank {
        return Err(ParseError::limit(format!("more than {} dimensions", limits.rank)));
    }
    // The other dimensions of a tensor without elements are bounded too, because other requests' rows are added to its shape.
    let bound = shape
        .iter()
        .filter(|dim| **dim > 0)
        .try_fold(1usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))
        .filter(|&elements| elements <= limits.elements);
    let bound = bound.ok_or_else(|| {
        ParseError::limit(format!("shape {shape:?} has more elements than the limit of {}", limits.elements))
    })?;
    Ok(if shape.contains(&0) { 0 } else { bound })
}
