//! Size that a request adds to a batch, and the budget of a batch.

/// Size of a request or a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Rows (items along dimension 0).
    pub rows: u32,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Tokens; 0 where tokens do not count.
    pub tokens: u64,
}

impl Size {
    /// Creates the size of `rows` rows, where neither bytes nor tokens count.
    pub fn of_rows(rows: u32) -> Self {
        Self { rows, bytes: 0, tokens: 0 }
    }

    /// Returns the sum of both sizes.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    /// Returns the size without `other`, which was part of it.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(other.rows),
            bytes: self.bytes.saturating_sub(other.bytes),
            tokens: self.tokens.saturating_sub(other.tokens),
        }
    }

    /// Returns the size with the last row repeated until there are `rows` rows. All rows of a batch have one shape, so
    /// each has an equal part of bytes and tokens.
    #[must_use]
    pub fn padded_to(self, rows: u32) -> Self {
        let scale = |whole: u64| {
            let padded = u128::from(whole) * u128::from(rows) / u128::from(self.rows.max(1));
            u64::try_from(padded).unwrap_or(u64::MAX)
        };
        if rows <= self.rows {
            return self;
        }
        Self { rows, bytes: scale(self.bytes), tokens: scale(self.tokens) }
    }
}

/// The most that a batch may hold. A request that alone is larger is sent alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Most rows: B\* ([`crate::batch_limit`]).
    pub rows: u32,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Tokens.
    pub tokens: u64,
}

impl Budget {
    /// Creates a budget of rows alone: bytes and tokens are not limited.
    pub fn of_rows(rows: u32) -> Self {
        Self { rows, bytes: u64::MAX, tokens: u64::MAX }
    }

    /// Returns whether a batch of this size is within the budget.
    pub fn holds(&self, size: Size) -> bool {
        size.rows <= self.rows && size.bytes <= self.bytes && size.tokens <= self.tokens
    }
}
