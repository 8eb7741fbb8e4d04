//! In which order requests are served.

use http::HeaderName;

use super::InvalidSetting;
use crate::settings::Settings;

/// Most priority classes.
pub(crate) const MOST_LEVELS: u8 = 16;
/// Most tenants at a time: each decision on arrival goes through all of them.
const MOST_TENANTS: usize = 1024;

impl Settings {
    pub(super) fn validate_order(&self) -> Result<(), InvalidSetting> {
        let invalid = |field, problem| Err(InvalidSetting { field, problem });
        if !(1..=MOST_LEVELS).contains(&self.priority_levels) {
            let problem = format!("{} is not between 1 and {MOST_LEVELS}", self.priority_levels);
            return invalid("priorityLevels", problem);
        }
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
        if self.max_timeout_ms == Some(0) {
            return invalid("maxTimeoutMs", "must be at least 1".to_owned());
        }
        if !(1..=MOST_TENANTS).contains(&self.max_tenants) {
            return invalid(
                "maxTenants",
                format!("{} is not between 1 and {MOST_TENANTS}", self.max_tenants),
            );
        }
        if let Some((tenant, _)) = self.tenant_weights.iter().find(|(_, weight)| **weight == 0) {
            return invalid("tenantWeights", format!("{tenant}: a weight must be at least 1"));
        }
        Ok(())
    }

    /// The class of a request that names this one: 1 is served first. 0, none, and one that there is not are the
    /// default one, as with Triton.
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
    use crate::settings::Settings;

    fn error(settings: Settings) -> String {
        let settings = Settings { upstream: Some("127.0.0.1:9000".into()), ..settings };
        settings.validate().unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_field_the_value_and_what_is_allowed() {
        let settings = Settings { priority_levels: 17, ..Settings::default() };
        assert_eq!(error(settings), "priorityLevels: 17 is not between 1 and 16");
        let settings = Settings { default_priority_level: Some(2), ..Settings::default() };
        assert_eq!(error(settings), "defaultPriorityLevel: 2 is not between 1 and priorityLevels (1)");
        let settings = Settings { tenant_header: "not a name".into(), ..Settings::default() };
        assert_eq!(error(settings), "tenantHeader: \"not a name\" is no name of a header");
        let settings = Settings { tenant_weights: [("a".into(), 0)].into(), ..Settings::default() };
        assert_eq!(error(settings), "tenantWeights: a: a weight must be at least 1");
    }

    #[test]
    fn a_class_that_there_is_not_is_the_default_one() {
        let settings = Settings { priority_levels: 3, ..Settings::default() };
        let levels = [None, Some(0), Some(1), Some(3), Some(4), Some(u64::MAX)];
        assert_eq!(levels.map(|level| settings.priority_level(level)), [2, 2, 1, 3, 2, 2]);
        let lowest = Settings { default_priority_level: Some(3), ..settings };
        assert_eq!(lowest.priority_level(None), 3);
        assert_eq!(Settings::default().priority_level(Some(5)), 1);
    }
}
