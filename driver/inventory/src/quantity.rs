//! Kubernetes quantities as exact integers, because counters are added and subtracted and never compared as text.

/// Nano-units per unit. A quantity cannot name a smaller step.
const NANO: i128 = 1_000_000_000;

/// Parses a quantity such as `1`, `16Gi`, `500m`, `1.5e3` and returns it in nano-units; `None` if it is not a
/// quantity.
pub fn nano(text: &str) -> Option<i128> {
    let number_end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let (multiplier, divisor) = scale(suffix)?;
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mantissa = parse_digits(whole)?
        .checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?
        .checked_add(parse_digits(fraction)?)?;
    let power = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = mantissa.checked_mul(multiplier)?.checked_mul(NANO)? / power / divisor;
    Some(if negative { -value } else { value })
}

fn parse_digits(digits: &str) -> Option<i128> {
    if digits.is_empty() {
        return Some(0);
    }
    // `parse` would accept a sign here.
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Returns the multiplier and the divisor of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 1));
    let decimal = |power: u32| Some((10_i128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 18)?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::nano;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, want) in [
            ("1", 1_000_000_000),
            ("0", 0),
            ("-2", -2_000_000_000),
            ("+3", 3_000_000_000),
            ("500m", 500_000_000),
            ("1.5", 1_500_000_000),
            (".5", 500_000_000),
            ("1.5Ki", 1_536_000_000_000),
            ("2k", 2_000_000_000_000),
            ("1e3", 1_000_000_000_000),
            ("25E-1", 2_500_000_000),
            ("7n", 7),
        ] {
            assert_eq!(nano(text), Some(want), "{text}");
        }
        assert_eq!(nano("8Ei"), Some((8_i128 << 60) * 1_000_000_000));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "x", "1x", "1.2.3", "--1", "1e", "1e99", "Mi", "-", ".", "1 Gi"] {
            assert_eq!(nano(text), None, "{text}");
        }
    }
}
