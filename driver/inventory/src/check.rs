//! Checks of what is to be published. Each refuses what the API server would refuse, names the field, and says what
//! to do.
use std::collections::BTreeSet;

use crate::error::PublishError;
use crate::gpu::Gpu;
use crate::{describe, limits, order};
use sluice_config::names::devices as names;

pub(crate) fn publishable(node: &str, driver: &str, gpus: &[Gpu]) -> Result<(), PublishError> {
    subdomain("node", node, limits::SUBDOMAIN_BYTES)?;
    subdomain("driver", driver, limits::DRIVER_NAME_BYTES)?;
    subdomain("pool", node, limits::SUBDOMAIN_BYTES - names::pool("").len())?;
    // The name of a slice is made of both.
    subdomain("ResourceSlice", &format!("{node}-{driver}-000"), limits::SUBDOMAIN_BYTES)?;
    let mut seen = BTreeSet::new();
    for gpu in gpus {
        placements(gpu)?;
        attributes(gpu)?;
        for device in order::devices(gpu) {
            label("device", &device.name)?;
            if !seen.insert(device.name.clone()) {
                return Err(PublishError::Duplicate { name: device.name });
            }
        }
    }
    Ok(())
}

fn placements(gpu: &Gpu) -> Result<(), PublishError> {
    for profile in &gpu.mig_profiles {
        for placement in &profile.placements {
            // The media extensions have one counter.
            let counters = usize::from(gpu.memory_slices) + 1;
            let inside = placement.size > 0 && placement.slices().end <= gpu.memory_slices;
            if !inside || counters > limits::COUNTERS_PER_SET {
                return Err(PublishError::Placement {
                    minor: gpu.minor,
                    profile: profile.name.clone(),
                    start: placement.start,
                    size: placement.size,
                    slices: gpu.memory_slices,
                });
            }
        }
    }
    Ok(())
}

fn attributes(gpu: &Gpu) -> Result<(), PublishError> {
    let pci = describe::pci_address(&gpu.pci_bus_id);
    let texts = [
        (names::UUID, gpu.uuid.as_str()),
        (names::PRODUCT_NAME, &gpu.product),
        (names::ARCHITECTURE, &gpu.architecture),
        (names::PCI_BUS_ID, &pci),
    ];
    for (attribute, text) in texts {
        if text.len() > limits::ATTRIBUTE_BYTES {
            return Err(PublishError::Attribute {
                minor: gpu.minor,
                attribute,
                length: text.len(),
                limit: limits::ATTRIBUTE_BYTES,
            });
        }
    }
    Ok(())
}

fn subdomain(what: &'static str, name: &str, limit: usize) -> Result<(), PublishError> {
    let fail = |why: &str| Err(PublishError::Name { what, name: name.to_owned(), why: why.to_owned() });
    if name.len() > limit {
        return fail(&format!("longer than {limit} bytes"));
    }
    if name.split('.').all(is_label) { Ok(()) } else { fail("not a lower-case DNS subdomain") }
}

fn label(what: &'static str, name: &str) -> Result<(), PublishError> {
    let fail = |why: &str| Err(PublishError::Name { what, name: name.to_owned(), why: why.to_owned() });
    if name.len() > limits::LABEL_BYTES {
        return fail(&format!("longer than {} bytes", limits::LABEL_BYTES));
    }
    if is_label(name) { Ok(()) } else { fail("not a lower-case DNS label") }
}

fn is_label(label: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(inner)
}
