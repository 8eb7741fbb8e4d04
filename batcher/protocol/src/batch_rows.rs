//! Which rows of a batch belong to which request.

/// How the rows of a batch are shared among its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRows {
    /// Rows of each request, in the order given.
    pub requests: Vec<usize>,
    /// Rows behind them that belong to no request.
    pub padding: usize,
}

impl BatchRows {
    /// Rows of the whole batch, padding included.
    pub fn total(&self) -> usize {
        self.requests.iter().sum::<usize>() + self.padding
    }

    /// The runs of rows into which an output falls: one for each request, and the padding where there is any.
    pub(crate) fn runs(&self) -> impl Iterator<Item = usize> {
        self.requests.iter().copied().chain((self.padding > 0).then_some(self.padding))
    }
}
