//! Batches of allowed sizes only.

/// How many of the requests with these rows, from the first on, make a batch of an allowed size: as many as
/// possible. A first request whose own size is not allowed goes alone: it cannot be divided.
pub(super) fn allowed_prefix(rows: impl Iterator<Item = u32>, allowed: &[u32]) -> usize {
    let mut total = 0;
    let mut best = 1;
    for (index, rows) in rows.enumerate() {
        total += rows;
        if allowed.binary_search(&total).is_ok() {
            best = index + 1;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::allowed_prefix;

    #[test]
    fn the_largest_allowed_size_that_is_available_is_taken() {
        assert_eq!(allowed_prefix([1; 7].into_iter(), &[1, 4, 8]), 4);
        assert_eq!(allowed_prefix([1; 9].into_iter(), &[1, 4, 8]), 8);
        assert_eq!(allowed_prefix([2, 2, 3].into_iter(), &[1, 4, 8]), 2);
    }

    #[test]
    fn a_request_of_no_allowed_size_goes_alone() {
        assert_eq!(allowed_prefix([3, 1, 1].into_iter(), &[1, 8]), 1);
    }
}
