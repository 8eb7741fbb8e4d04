//! Flag `--kill PROGRAM@SECONDS`: scheduled crashes, to show that the other programs survive them.

use std::str::FromStr;

/// Program that can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// `sluice-driver`.
    Driver,
    /// `sluice-autoscaler`.
    Autoscaler,
    /// The oldest model server.
    Model,
}

/// SIGKILL for one program at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    pub victim: Victim,
    /// Time of the kill, in seconds since the load began.
    pub at_s: u32,
}

impl FromStr for Kill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected =
            || format!("{text:?} is not PROGRAM@SECONDS with driver, autoscaler or model, e.g. driver@60");
        let (victim, at) = text.split_once('@').ok_or_else(expected)?;
        let victim = match victim {
            "driver" => Victim::Driver,
            "autoscaler" => Victim::Autoscaler,
            "model" => Victim::Model,
            _ => return Err(expected()),
        };
        Ok(Self { victim, at_s: at.parse().map_err(|_| expected())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_names_a_program_and_a_time() {
        assert_eq!("driver@60".parse(), Ok(Kill { victim: Victim::Driver, at_s: 60 }));
        assert!("gateway@60".parse::<Kill>().unwrap_err().contains("driver, autoscaler or model"));
        assert!("driver".parse::<Kill>().is_err());
    }
}
