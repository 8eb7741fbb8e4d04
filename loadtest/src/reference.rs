//! The reference function: what a correct answer is, known to the model that gives it and to the generator
//! that checks it. An answer depends on its own row alone, so that a row that was mixed up with another,
//! given twice or computed from a neighbour's data is seen at once.
//!
//! One row is an `id` (INT64) and [`WIDTH`] numbers `x` (FP32); its answer is the same `id` and
//! `y = 3·x + (id mod 1024)`, each operation rounded to f32.

/// Name of the input and output that carries the row's id, shape `[rows, 1]`, INT64.
pub(crate) const ID: &str = "id";
/// Name of the input with the row's numbers, shape `[rows, WIDTH]`, FP32.
pub(crate) const X: &str = "x";
/// Name of the output with the row's answer, shape `[rows, WIDTH]`, FP32.
pub(crate) const Y: &str = "y";
/// Numbers per row.
pub(crate) const WIDTH: usize = 16;

/// The element of `y` that belongs to the element `x` of the row `id`.
pub(crate) fn answer(id: i64, x: f32) -> f32 {
    // rem_euclid is below 1024 and so exact in f32.
    3.0 * x + id.rem_euclid(1024) as f32
}

/// The `x` that the generator sends in the row `id`: multiples of 1/8, exact in f32 and short as text,
/// different between neighbours, so that a shifted answer is a wrong one.
pub(crate) fn row(id: i64) -> [f32; WIDTH] {
    std::array::from_fn(|column| {
        let mixed = id.wrapping_mul(31).wrapping_add(column as i64 * 7).rem_euclid(4096);
        (mixed - 2048) as f32 / 8.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_rows_have_different_answers() {
        for id in 1..5000 {
            let (here, next) = (row(id), row(id + 1));
            assert!(here.iter().zip(next).all(|(a, b)| answer(id, *a) != answer(id + 1, b)), "row {id}");
        }
    }

    #[test]
    fn a_warm_up_row_of_zeros_answers_zeros() {
        assert_eq!(answer(0, 0.0), 0.0);
    }
}
