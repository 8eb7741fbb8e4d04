//! Compute slices of a GPU slice, from the name of its profile.

/// A profile name that cannot be parsed.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error(
    "{variable} is `{profile}`, which is no slice profile: expected `full`, or `<compute slices>g.<memory>gb` \
     such as `2g.10gb`",
    variable = sluice_config::names::env::PROFILE
)]
pub struct UnknownProfile {
    pub profile: String,
}

/// Returns the compute slices of a profile: `2g.10gb` → 2, `1g.5gb+me` → 1; a whole GPU counts as 7, the compute slices
/// of an A100, H100, H200 or B200.
///
/// # Errors
/// The text is neither `full` nor a MIG profile name of 1 to 7 compute slices.
pub(super) fn compute_slices(profile: &str) -> Result<u32, UnknownProfile> {
    if profile == sluice_config::names::devices::PROFILE_FULL {
        return Ok(7);
    }
    let unknown = || UnknownProfile { profile: profile.to_owned() };
    let (compute, memory) = profile.split_once("g.").ok_or_else(unknown)?;
    let memory = memory.split('+').next().unwrap_or(memory).strip_suffix("gb").ok_or_else(unknown)?;
    let compute: u32 = compute.parse().map_err(|_| unknown())?;
    if !(1..=7).contains(&compute) || memory.parse::<u32>().is_err() {
        return Err(unknown());
    }
    Ok(compute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compute_slices_are_read_from_the_profile_name() {
        for (profile, slices) in [("2g.10gb", 2), ("7g.80gb", 7), ("1g.5gb+me", 1), ("full", 7)] {
            assert_eq!(compute_slices(profile), Ok(slices), "{profile}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_its_text() {
        for profile in ["", "0g.5gb", "8g.5gb", "2g", "g.10gb", "2g.10", "MIG-1234"] {
            let message = compute_slices(profile).unwrap_err().to_string();
            assert!(message.contains(&format!("`{profile}`")), "{message}");
            assert!(message.contains("2g.10gb"), "{message}");
        }
    }
}
