//! Numbers that were written with a unit, a sign or a fraction where the setting is a plain number: what the setting
//! counts, and how to write what was meant.

/// What a number counts; the name of its setting says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `…Ms`.
    Milliseconds,
    /// `…Seconds`.
    Seconds,
    /// `…Bytes`.
    Bytes,
    /// `…Rps`.
    RequestsPerSecond,
    /// `…Pct`, `percentile`.
    Percent,
    /// `…Ratio`, `…Sample`, `tolerance`.
    Share,
    /// Anything else: rows, requests, replicas.
    Number,
}

impl Unit {
    /// What the setting of this name counts; flags (`--tick-ms`), annotations (`sluice.dev/objective-ms`) and
    /// variables (`SLUICE_BATCHER_HOLD_MS`) are such names too.
    pub fn of(name: &str) -> Self {
        let plain: String =
            name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        // A word of its own, or the hump of a camel: `items` and `rooms` count no milliseconds.
        let is_ms = name.ends_with("Ms") || name.ends_with("-ms") || name.ends_with("_MS") || name == "ms";
        match plain.as_str() {
            _ if is_ms => Self::Milliseconds,
            plain if plain.ends_with("seconds") => Self::Seconds,
            plain if plain.ends_with("bytes") => Self::Bytes,
            plain if plain.ends_with("rps") => Self::RequestsPerSecond,
            plain if plain.ends_with("pct") || plain.ends_with("percentile") => Self::Percent,
            plain if plain.ends_with("ratio") || plain.ends_with("sample") || plain == "tolerance" => {
                Self::Share
            }
            _ => Self::Number,
        }
    }

    /// What to write, without an example.
    pub fn words(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds without a unit",
            Self::Seconds => "seconds without a unit",
            Self::Bytes => "bytes without a unit",
            Self::RequestsPerSecond => "requests per second without a unit",
            Self::Percent => "per cent without a sign",
            Self::Share => "a share from 0 to 1",
            Self::Number => "a number without a unit",
        }
    }

    fn example(self) -> f64 {
        match self {
            Self::Milliseconds => 300.0,
            Self::Seconds => 30.0,
            Self::Bytes => 1_048_576.0,
            Self::RequestsPerSecond => 100.0,
            Self::Percent => 99.0,
            Self::Share => 0.1,
            Self::Number => 8.0,
        }
    }

    /// The number to write for `amount` of a unit that somebody wrote; `None` where that is another quantity.
    fn convert(self, amount: f64, unit: &str) -> Option<f64> {
        let unit = unit.trim();
        let factor = match self {
            _ if unit.is_empty() => 1.0,
            Self::Milliseconds => milliseconds_of(unit)?,
            Self::Seconds => milliseconds_of(unit)? / 1e3,
            Self::Bytes => bytes_of(unit)?,
            Self::RequestsPerSecond if unit.contains("/s") || unit.eq_ignore_ascii_case("rps") => 1.0,
            Self::Percent if unit == "%" => 1.0,
            Self::Share if unit == "%" => 0.01,
            Self::RequestsPerSecond | Self::Percent | Self::Share => return None,
            Self::Number => match unit {
                "k" | "K" => 1e3,
                "M" => 1e6,
                "%" | "s" | "ms" | "m" | "h" => return None,
                _ => 1.0,
            },
        };
        Some(rounded(amount * factor))
    }
}

/// What was meant by `text` in the setting `name`: `milliseconds without a unit: 300`. `None` where `text` does not
/// begin as a number, for then nothing can be said.
pub fn meant(name: &str, text: &str) -> Option<String> {
    let unit = Unit::of(name);
    let (amount, written) = split(text)?;
    let number = unit.convert(amount, &written).filter(|number| number.is_finite() && *number >= 0.0);
    Some(match number {
        Some(number) if number.fract() == 0.0 || takes_fractions(unit) => {
            format!("{}: {number}", unit.words())
        }
        _ => format!("{}, such as {}", unit.words(), unit.example()),
    })
}

/// What was meant by a share where per cent are asked for: 0.95 is 95, 0.999 is 99.9. `None` where `value` is no
/// share.
pub fn share_as_percent(value: f64) -> Option<f64> {
    (value > 0.0 && value < 1.0).then(|| rounded(value * 100.0))
}

/// Nine digits after the point: what a product of two decimal numbers has beyond them is not what somebody wrote.
fn rounded(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}

fn takes_fractions(unit: Unit) -> bool {
    matches!(unit, Unit::Percent | Unit::Share | Unit::RequestsPerSecond)
}

/// The number at the beginning, and what follows it. Underscores and commas between digits group them.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let is_grouped = |at: usize| {
        text[at + 1..].starts_with(|next: char| next.is_ascii_digit())
            && text[..at].ends_with(|last: char| last.is_ascii_digit())
    };
    let end = text
        .char_indices()
        .find(|&(at, letter)| {
            !(letter.is_ascii_digit()
                || letter == '.'
                || (at == 0 && "+-".contains(letter))
                || ("_,".contains(letter) && is_grouped(at)))
        })
        .map_or(text.len(), |(at, _)| at);
    let (number, unit) = text.split_at(end);
    let amount = number.replace(['_', ','], "").parse().ok()?;
    Some((amount, unit.trim().to_owned()))
}

fn milliseconds_of(unit: &str) -> Option<f64> {
    Some(match unit.to_lowercase().as_str() {
        "ns" => 1e-6,
        "us" | "µs" | "μs" => 1e-3,
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
        "m" | "min" | "mins" | "minute" | "minutes" => 6e4,
        "h" | "hr" | "hour" | "hours" => 3.6e6,
        "d" | "day" | "days" => 8.64e7,
        _ => return None,
    })
}

fn bytes_of(unit: &str) -> Option<f64> {
    let letters = unit.trim_end_matches(['B', 'b']);
    Some(match letters {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_with_a_unit_is_told_in_the_settings_own() {
        for (name, text, told) in [
            ("latencyMs", "300ms", "milliseconds without a unit: 300"),
            ("--tick-ms", "5s", "milliseconds without a unit: 5000"),
            ("sluice.dev/objective-ms", "0.3 s", "milliseconds without a unit: 300"),
            ("SLUICE_BATCHER_HOLD_MS", "1m", "milliseconds without a unit: 60000"),
            ("periodSeconds", "2m", "seconds without a unit: 120"),
            ("periodSeconds", "300ms", "seconds without a unit, such as 30"),
            ("queueBytes", "2Gi", "bytes without a unit: 2147483648"),
            ("queueBytes", "64 MB", "bytes without a unit: 64000000"),
            ("queueBytes", "1_048_576", "bytes without a unit: 1048576"),
            ("queueBytes", "5 apples", "bytes without a unit, such as 1048576"),
            ("percentile", "99%", "per cent without a sign: 99"),
            ("tolerance", "10%", "a share from 0 to 1: 0.1"),
            ("maxBatchRows", "64 rows", "a number without a unit: 64"),
            ("maxBatchRows", "64", "a number without a unit: 64"),
            ("maxBatchRows", "-2", "a number without a unit, such as 8"),
        ] {
            assert_eq!(meant(name, text).as_deref(), Some(told), "{name}: {text}");
        }
        assert_eq!(meant("latencyMs", "fast"), None);
        assert_eq!(Unit::of("items"), Unit::Number);
    }

    #[test]
    fn a_share_becomes_the_per_cent_that_somebody_would_write() {
        for (share, percent) in [(0.95, 95.0), (0.99, 99.0), (0.999, 99.9), (0.57, 57.0)] {
            assert_eq!(share_as_percent(share), Some(percent));
        }
        assert_eq!(share_as_percent(1.0), None);
        assert_eq!(share_as_percent(f64::NAN), None);
    }
}
