//! Boards: the GPUs of a topology with all defaults filled in, and the checks of the topology.

use std::collections::HashSet;

use super::{Gpu, MAX_GPUS, Topology, TopologyError};
use crate::geometry::Model;
use crate::{functions, identity};

/// GPU with all defaults filled in.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    pub(crate) model: &'static Model,
    pub(crate) uuid: String,
    pub(crate) minor: u32,
    pub(crate) bus: PciAddress,
    pub(crate) serial: String,
    pub(crate) mig_enabled: bool,
}

/// PCI address with function 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PciAddress {
    pub(crate) domain: u32,
    pub(crate) bus: u32,
    pub(crate) device: u32,
}

impl PciAddress {
    /// Parses `dddddddd:bb:dd.0`, `dddd:bb:dd.0` or `bb:dd.0` in upper or lower case.
    pub(crate) fn parse(text: &str) -> Option<PciAddress> {
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
        let (rest, slot) = text.rsplit_once(':')?;
        let (device, "0") = slot.split_once('.')? else { return None };
        let (domain, bus) = rest.split_once(':').unwrap_or(("0", rest));
        let address = PciAddress { domain: hex(domain)?, bus: hex(bus)?, device: hex(device)? };
        (address.bus <= 0xff && address.device <= 0x1f).then_some(address)
    }
}

impl std::fmt::Display for PciAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }
}

impl Topology {
    /// Returns the GPUs with all defaults filled in.
    pub(crate) fn boards(&self) -> Result<Vec<Board>, TopologyError> {
        let invalid = |field: String, reason: String| Err(TopologyError::Invalid { field, reason });
        if self.gpus.is_empty() || self.gpus.len() > MAX_GPUS {
            return invalid(
                "gpus".into(),
                format!("{} entries, where 1 to {MAX_GPUS} are possible", self.gpus.len()),
            );
        }
        for key in self.latency_ms.keys() {
            if functions::named_by(key).is_empty() {
                let nearest = functions::nearest(key);
                return invalid(
                    format!("latencyMs.{key}"),
                    format!("no such function or operation; the nearest is `{nearest}`"),
                );
            }
        }
        let mut boards: Vec<Board> = Vec::with_capacity(self.gpus.len());
        let (mut uuids, mut minors, mut buses) = (HashSet::new(), HashSet::new(), HashSet::new());
        for (index, gpu) in self.gpus.iter().enumerate() {
            let board = gpu.board(index)?;
            let taken = [
                ("uuid", !uuids.insert(board.uuid.clone())),
                ("minor", !minors.insert(board.minor)),
                ("busId", !buses.insert(board.bus)),
            ];
            if let Some((field, _)) = taken.into_iter().find(|(_, taken)| *taken) {
                return invalid(format!("gpus[{index}].{field}"), "another GPU has it already".into());
            }
            boards.push(board);
        }
        Ok(boards)
    }
}

impl Gpu {
    fn board(&self, index: usize) -> Result<Board, TopologyError> {
        let invalid =
            |field: &str, reason| TopologyError::Invalid { field: format!("gpus[{index}].{field}"), reason };
        let model = Model::find(&self.model).ok_or_else(|| {
            let known: Vec<_> = Model::all().iter().map(|model| model.name).collect();
            invalid("model", format!("unknown model `{}`; known are {}", self.model, known.join(", ")))
        })?;
        let uuid = self.uuid.clone().unwrap_or_else(|| identity::gpu_uuid(model.name, index));
        if uuid.strip_prefix("GPU-").is_none_or(|rest| uuid::Uuid::try_parse(rest).is_err()) {
            return Err(invalid("uuid", format!("`{uuid}` is not `GPU-` and a UUID")));
        }
        let bus = match &self.bus_id {
            Some(text) => PciAddress::parse(text).ok_or_else(|| {
                invalid("busId", format!("`{text}` is not an address like 00000000:07:00.0"))
            })?,
            // The index is below MAX_GPUS, so the bus number fits into eight bits.
            None => PciAddress { domain: 0, bus: 7 + 4 * index as u32, device: 0 },
        };
        Ok(Board {
            model,
            uuid,
            minor: self.minor.unwrap_or(index as u32),
            bus,
            serial: self.serial.clone().unwrap_or_else(|| format!("13206220{index:05}")),
            mig_enabled: self.mig_enabled,
        })
    }
}
