//! Layout of slices that an API server accepts, from its version. Pure.

use sluice_inventory::SliceLayout;

use crate::store::StoreError;

/// First minor version of Kubernetes 1 that has counters and devices in separate slices.
const FIRST_SPLIT_MINOR: u32 = 35;

/// Returns the layout for `major` and `minor` of `/version`. Hosted clusters have minors such as `34+`.
pub(super) fn slice_layout(major: &str, minor: &str) -> Result<SliceLayout, StoreError> {
    let number = |text: &str| -> Option<u32> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse().ok()
    };
    match (number(major), number(minor)) {
        (Some(1), Some(minor)) if minor < FIRST_SPLIT_MINOR => Ok(SliceLayout::Combined),
        (Some(_), Some(_)) => Ok(SliceLayout::Split),
        _ => Err(StoreError(format!(
            "the API server calls itself version {major:?}.{minor:?}, which is no version; set sliceForm to \
             combined (Kubernetes 1.34) or split (1.35 and newer)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_the_servers_version() {
        assert_eq!(slice_layout("1", "34").unwrap(), SliceLayout::Combined);
        assert_eq!(slice_layout("1", "34+").unwrap(), SliceLayout::Combined);
        assert_eq!(slice_layout("1", "35").unwrap(), SliceLayout::Split);
        assert_eq!(slice_layout("1", "37+").unwrap(), SliceLayout::Split);
        assert_eq!(slice_layout("2", "0").unwrap(), SliceLayout::Split);
        assert!(slice_layout("", "").unwrap_err().to_string().contains("sliceForm"));
    }
}
