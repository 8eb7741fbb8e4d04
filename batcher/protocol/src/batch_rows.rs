//! Assignment of a batch's rows to its requests.

/// Rows of a batch by the requests that they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRows {
    /// Number of rows of each request, in the order of the requests.
    pub requests: Vec<usize>,
    /// Number of rows behind them that fill the batch up and belong to no request.
    pub padding: usize,
}

impl BatchRows {
    /// Returns the number of rows of the whole batch, padding included.
    pub fn total(&self) -> usize {
        self.requests.iter().sum::<usize>() + self.padding
    }

    /// Returns the lengths of the runs of rows that an output consists of: one for each request, and one for the padding where
    /// there is any.
    pub(crate) fn runs(&self) -> impl Iterator<Item = usize> {
        self.requests.iter().copied().chain((self.padding > 0).then_some(self.padding))
    }
}
