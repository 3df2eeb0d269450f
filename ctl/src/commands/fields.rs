//! Which fields of an object a command sets, as a field mask.

use std::collections::BTreeMap;

use fastgate::admin::v1::{Limit, Target};
use prost_types::FieldMask;

use crate::{
    cli::{LabelArg, LimitArg, TargetArg},
    error::Error,
};

/// Sets fields of an object and notes their names.
#[derive(Debug, Default)]
pub(super) struct Changes {
    paths: Vec<String>,
}

impl Changes {
    /// The fields to take away, which keep their empty value.
    pub(super) fn clearing(fields: Vec<String>) -> Self {
        Self { paths: fields.iter().map(|field| field.replace('-', "_")).collect() }
    }

    /// Sets a field, if a value was given.
    pub(super) fn set<T>(&mut self, name: &str, field: &mut T, value: Option<impl Into<T>>) {
        if let Some(value) = value {
            *field = value.into();
            self.paths.push(name.into());
        }
    }

    /// Sets a list, if it was given.
    pub(super) fn set_list<T>(&mut self, name: &str, field: &mut Vec<T>, values: Vec<T>) {
        self.set(name, field, (!values.is_empty()).then_some(values));
    }

    /// Sets labels, if some were given.
    pub(super) fn set_labels(
        &mut self,
        field: &mut BTreeMap<String, String>,
        given: Vec<LabelArg>,
    ) {
        let labels: BTreeMap<_, _> =
            given.into_iter().map(|label| (label.key, label.value)).collect();
        self.set("labels", field, (!labels.is_empty()).then_some(labels));
    }

    /// Takes a field away where `other`, which stands for the same thing, is set.
    pub(super) fn replace(&mut self, name: &str, other: &str) {
        if self.paths.iter().any(|path| path == other) && !self.paths.iter().any(|p| p == name) {
            self.paths.push(name.into());
        }
    }

    /// The fields to change; an error when there are none.
    pub(super) fn mask(self) -> Result<FieldMask, Error> {
        if self.paths.is_empty() {
            return Err(Error::Usage(
                "nothing to change: give at least one field, see --help".into(),
            ));
        }
        Ok(FieldMask { paths: self.paths })
    }
}

/// Targets as the API has them.
pub(super) fn targets(given: Vec<TargetArg>) -> Vec<Target> {
    let target = |arg: TargetArg| Target { url: arg.url, weight: arg.weight, timeout: arg.timeout };
    given.into_iter().map(target).collect()
}

/// Limits as the API has them.
pub(super) fn limits(given: Vec<LimitArg>) -> Vec<Limit> {
    let limit = |arg: LimitArg| {
        let LimitArg { name, amount, period, burst, cost, charge, counts, fallback, shadow } = arg;
        Limit { name, amount, period, burst, cost, charge, counts, fallback, shadow }
    };
    given.into_iter().map(limit).collect()
}

/// A limit as it would be given.
pub(super) fn limit_arg(limit: &Limit) -> LimitArg {
    let Limit { name, amount, period, burst, cost, charge, counts, fallback, shadow } =
        limit.clone();
    LimitArg { name, amount, period, burst, cost, charge, counts, fallback, shadow }
}

/// What of a table says what is limited: requests a minute, then further limits.
pub(super) fn limited(rate_limit: Option<i64>, limits: &[Limit]) -> String {
    let rate = rate_limit.map(|rate| format!("{rate}/minute"));
    let further = limits.iter().map(|limit| limit_arg(limit).written());
    rate.into_iter().chain(further).collect::<Vec<_>>().join(" ")
}

/// A number of a table; empty where it is not set.
pub(super) fn number(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
