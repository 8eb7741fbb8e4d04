//! In which order requests are served: deadlines, priority classes, tenants.

use std::collections::BTreeMap;

use http::HeaderName;

use super::InvalidSetting;
use super::table::{Bounds, Setting, settings_group};

/// Maximum number of priority classes.
pub(crate) const MOST_LEVELS: u8 = 16;
/// Maximum number of tenants at a time: each decision on arrival goes through all of them.
const MOST_TENANTS: f64 = 1024.0;

settings_group! {
    /// Who is served first
    pub struct OrderSettings {
        /// Header with a request's deadline in milliseconds from its arrival; "" for none.
        deadline_header: String = "x-request-timeout-ms".to_owned(),
            Setting::new("deadlineHeader").value_name("NAME");
        /// Maximum deadline that a request may ask for.
        ///
        /// Later ones are cut to it.
        max_timeout_ms: Option<u64> = None, Setting::new("maxTimeoutMs").bounds(Bounds::AtLeastOne);
        /// Number of priority classes; 1 is served first.
        ///
        /// At most 16.
        priority_levels: u8 = 1,
            Setting::new("priorityLevels").bounds(Bounds::Between(1.0, MOST_LEVELS as f64));
        /// Class of requests that name none.
        ///
        /// Also of requests that name one that does not exist.
        default_priority_level: Option<u8> = None,
            Setting::new("defaultPriorityLevel").absent("the middle one");
        /// Header with a request's class; "" for none.
        ///
        /// It wins over the parameter `priority`.
        priority_header: String = "x-sluice-priority".to_owned(),
            Setting::new("priorityHeader").value_name("NAME");
        /// Header with the name of the tenant that a request belongs to; "" for none.
        ///
        /// Requests without it belong to one tenant.
        tenant_header: String = "x-sluice-tenant".to_owned(), Setting::new("tenantHeader").value_name("NAME");
        /// Weights of tenants: a tenant's part of the service relative to the others'.
        tenant_weights: BTreeMap<String, u32> = BTreeMap::new(),
            Setting::new("tenantWeights").file_only().absent("1 for each");
        /// Maximum number of tenants with requests at a time.
        ///
        /// Further ones count as one tenant. At most 1024.
        max_tenants: usize = 64, Setting::new("maxTenants").bounds(Bounds::Between(1.0, MOST_TENANTS));
    }
}

impl OrderSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let invalid = |field, problem| Err(InvalidSetting { field, problem });
        if let Some(level) = self.default_priority_level
            && !(1..=self.priority_levels).contains(&level)
        {
            let problem = format!("{level} is not between 1 and priorityLevels ({})", self.priority_levels);
            return invalid("defaultPriorityLevel", problem);
        }
        let headers = [
            ("priorityHeader", &self.priority_header),
            ("deadlineHeader", &self.deadline_header),
            ("tenantHeader", &self.tenant_header),
        ];
        for (field, name) in headers {
            if !name.is_empty() && HeaderName::try_from(name).is_err() {
                return invalid(field, format!("{name:?} is no name of a header"));
            }
        }
        if let Some((tenant, _)) = self.tenant_weights.iter().find(|(_, weight)| **weight == 0) {
            return invalid("tenantWeights", format!("{tenant}: a weight must be at least 1"));
        }
        Ok(())
    }

    /// Returns the class of a request that names the class `named`: 1 is served first. `None`, 0 and a class that does
    /// not exist mean the default class, as with Triton.
    pub fn priority_level(&self, named: Option<u64>) -> u8 {
        let named = named.and_then(|level| u8::try_from(level).ok());
        match named.filter(|level| (1..=self.priority_levels).contains(level)) {
            Some(level) => level,
            None => self.default_priority_level.unwrap_or(self.priority_levels.div_ceil(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::table::Group;

    fn error(settings: OrderSettings) -> String {
        settings.check_bounds().and_then(|()| settings.check()).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_field_the_value_and_what_is_allowed() {
        let settings = OrderSettings { priority_levels: 17, ..OrderSettings::default() };
        assert_eq!(error(settings), "priorityLevels: 17 is not between 1 and 16");
        let settings = OrderSettings { default_priority_level: Some(2), ..OrderSettings::default() };
        assert_eq!(error(settings), "defaultPriorityLevel: 2 is not between 1 and priorityLevels (1)");
        let settings = OrderSettings { tenant_header: "not a name".into(), ..OrderSettings::default() };
        assert_eq!(error(settings), "tenantHeader: \"not a name\" is no name of a header");
        let settings = OrderSettings { tenant_weights: [("a".into(), 0)].into(), ..OrderSettings::default() };
        assert_eq!(error(settings), "tenantWeights: a: a weight must be at least 1");
    }

    #[test]
    fn a_class_that_there_is_not_is_the_default_one() {
        let settings = OrderSettings { priority_levels: 3, ..OrderSettings::default() };
        let levels = [None, Some(0), Some(1), Some(3), Some(4), Some(u64::MAX)];
        assert_eq!(levels.map(|level| settings.priority_level(level)), [2, 2, 1, 3, 2, 2]);
        let lowest = OrderSettings { default_priority_level: Some(3), ..settings };
        assert_eq!(lowest.priority_level(None), 3);
        assert_eq!(OrderSettings::default().priority_level(Some(5)), 1);
    }
}
