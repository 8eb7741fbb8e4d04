//! Deadline, priority class and tenant of a request, read from its headers and parameters.

use std::sync::Arc;

use http::HeaderMap;
use sluice_batch_policy::Flow;
use sluice_protocol::InferRequest;

use super::Front;
use crate::failure::Failure;
use crate::queue::tenants::{NOBODY, Tenant, Tenants};
use crate::settings::Settings;

/// Deadline, priority class and tenant of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Urgency {
    /// Its priority class as the request gives it; 1 is the highest.
    level: Option<u64>,
    /// Time that it may take from its arrival on, in microseconds: the shortest that it gives.
    timeout_us: Option<u64>,
    /// Its tenant.
    pub(super) tenant: Option<Arc<Tenant>>,
}

impl Front {
    /// Reads a request's headers; its parameters are added when it is queued.
    pub(super) fn urgency(&self, headers: &HeaderMap) -> Result<Urgency, Failure> {
        Urgency::by_headers(headers, &self.settings.now(), &self.tenants)
    }
}

impl Urgency {
    /// Reads `grpc-timeout` and the headers that the settings name. The value 0 counts as a missing header.
    ///
    /// # Errors
    /// Fails for a value that is not valid: if it were ignored, the request would be served later than its client expects,
    /// or with another tenant's.
    fn by_headers(headers: &HeaderMap, settings: &Settings, tenants: &Tenants) -> Result<Self, Failure> {
        let number = |name: &str, what: &str| match text(headers, name)? {
            None => Ok(None),
            Some(value) => match value.parse::<u64>() {
                Ok(0) => Ok(None),
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(bad(name, value, what)),
            },
        };
        let level = number(&settings.order.priority_header, "a priority class: a number, 1 is served first")?;
        let timeout_ms = number(&settings.order.deadline_header, "a number of milliseconds")?;
        let grpc_us = match text(headers, "grpc-timeout")? {
            None => None,
            Some(value) => match parse_grpc_timeout(value) {
                None => return Err(bad("grpc-timeout", value, "at most 8 digits and one of HMSmun")),
                us => us,
            },
        };
        let timeout_us = timeout_ms.map(|ms| ms.saturating_mul(1000));
        let tenant = text(headers, &settings.order.tenant_header)?
            .filter(|name| !name.is_empty())
            .map(|name| tenants.of(name, settings));
        Ok(Self { level, timeout_us: earliest(timeout_us, grpc_us.filter(|&us| us > 0)), tenant })
    }

    /// Adds the request's parameters: the earliest deadline holds, and a class in the header wins over one in a parameter.
    pub(super) fn with_parameters(self, request: &InferRequest) -> Self {
        Self {
            level: self.level.or(request.priority),
            timeout_us: earliest(self.timeout_us, request.timeout_us.filter(|&us| us > 0)),
            ..self
        }
    }

    /// Returns its flow: its class among those of the settings, and its tenant.
    pub(super) fn flow(&self, settings: &Settings) -> Flow {
        let (tenant, weight) =
            self.tenant.as_ref().map_or((NOBODY, 1), |tenant| (tenant.number, tenant.weight));
        Flow { class: settings.order.priority_level(self.level), tenant, weight }
    }

    /// Returns the time in microseconds that the request may spend in the batcher: its deadline, or its model's objective
    /// where it has none, minus the time that the response takes to the client (at most a tenth of the whole).
    pub(super) fn budget_us(&self, objective_ms: u64, settings: &Settings) -> u64 {
        let budget_us = match self.timeout_us {
            None => objective_ms.saturating_mul(1000),
            Some(timeout_us) => settings
                .order
                .max_timeout_ms
                .map_or(timeout_us, |most_ms| timeout_us.min(most_ms.saturating_mul(1000))),
        };
        budget_us - settings.batching.transit_ms.saturating_mul(1000).min(budget_us / 10)
    }
}

fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Returns the value of a header; `None` where it is missing or the settings give it no name.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Failure> {
    if name.is_empty() {
        return Ok(None);
    }
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| bad(name, "(not ASCII)", "visible ASCII characters"))?;
    Ok(Some(text.trim()))
}

fn bad(name: &str, value: &str, allowed: &str) -> Failure {
    Failure::new(400, format!("header {name}: {value:?} is not {allowed}"))
}

/// Parses `grpc-timeout`, at most eight digits and a unit, into microseconds; `None` where it is not valid.
fn parse_grpc_timeout(value: &str) -> Option<u64> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => amount * 3_600_000_000,
        "M" => amount * 60_000_000,
        "S" => amount * 1_000_000,
        "m" => amount * 1_000,
        "u" => amount,
        "n" => amount.div_ceil(1_000),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_settings;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn grpc_timeouts_are_read_in_all_units() {
        assert_eq!(parse_grpc_timeout("250m"), Some(250_000));
        assert_eq!(parse_grpc_timeout("1S"), Some(1_000_000));
        assert_eq!(parse_grpc_timeout("99999999H"), Some(99_999_999 * 3_600_000_000));
        assert_eq!(parse_grpc_timeout("1n"), Some(1));
        for invalid in ["", "S", "5", "123456789S", "1x", "-1S", "+1S"] {
            assert_eq!(parse_grpc_timeout(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn the_earliest_deadline_holds_and_the_settings_bound_it() {
        let settings = Settings::default();
        let headers = headers(&[("x-request-timeout-ms", "300"), ("grpc-timeout", "250m")]);
        let urgency = Urgency::by_headers(&headers, &settings, &Tenants::default()).unwrap();
        assert_eq!(urgency.budget_us(1000, &settings), 248_000);
        let bounded = with_settings!(Settings::default(), order.max_timeout_ms = Some(100));
        assert_eq!(urgency.budget_us(1000, &bounded), 98_000);
        assert_eq!(Urgency::default().budget_us(1000, &bounded), 998_000, "the objective is not asked for");
        assert_eq!(Urgency::default().budget_us(5, &bounded), 4_500, "never most of it");
    }

    #[test]
    fn nought_says_nothing() {
        let settings = Settings::default();
        let headers = headers(&[
            ("x-request-timeout-ms", "0"),
            ("grpc-timeout", "0S"),
            ("x-sluice-priority", "0"),
            ("x-sluice-tenant", ""),
        ]);
        assert_eq!(Urgency::by_headers(&headers, &settings, &Tenants::default()), Ok(Urgency::default()));
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_header_value_and_what_is_allowed() {
        for (name, value) in
            [("x-sluice-priority", "high"), ("x-request-timeout-ms", "-5"), ("grpc-timeout", "5 s")]
        {
            let headers = headers(&[(name, value)]);
            let failure =
                Urgency::by_headers(&headers, &Settings::default(), &Tenants::default()).unwrap_err();
            assert_eq!(failure.status, 400);
            assert!(failure.message.contains(name) && failure.message.contains(value), "{}", failure.message);
            let without = with_settings!(
                Settings::default(),
                order.priority_header = String::new(),
                order.deadline_header = String::new()
            );
            assert_eq!(
                Urgency::by_headers(&headers, &without, &Tenants::default()).is_err(),
                name == "grpc-timeout"
            );
        }
    }
}
