//! Device selectors: CEL over the variable `device`, evaluated as the scheduler does.
//!
//! `device` has `driver`, `attributes[domain][id]`, `capacity[domain][id]` and `allowMultipleAllocations`.
//! Unqualified ids belong to the driver's domain. An unknown domain is an empty map; an unknown id is an error, at
//! which the scheduler gives up on the pod. Differences to the scheduler: an error means "does not match" and is
//! reported, there is no cost limit, and `cel.bind` is not supported.
mod optional;

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};
use kube_cel::KubeCelExt;
use kube_cel::cel::common::ast::{EntryExpr, Expr, LiteralValue};
use kube_cel::cel::objects::{Key, Value};
use kube_cel::cel::parser::{Expression, Parser};
use kube_cel::cel::{Context, Program};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::AllocationError;

/// Compiled selector.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    /// DeviceClass or request that has the selector: `DeviceClass x`, `request y`.
    pub(crate) place: String,
    /// Text of the selector.
    pub(crate) expression: String,
    compiled: Expression,
    /// Attribute domains that the selector indexes by a literal. Every device has them, empty if need be.
    domains: BTreeSet<String>,
}

impl Selector {
    pub(crate) fn compile(place: &str, expression: &str) -> Result<Self, AllocationError> {
        let mut compiled = Parser::new().enable_optional_syntax(true).parse(expression).map_err(|error| {
            AllocationError::Selector {
                place: place.to_owned(),
                expression: expression.to_owned(),
                error: error.to_string(),
            }
        })?;
        optional::by_index(&mut compiled);
        let mut domains = BTreeSet::new();
        indexed_domains(&compiled, &mut domains);
        Ok(Self { place: place.to_owned(), expression: expression.to_owned(), compiled, domains })
    }
}

/// Failure to evaluate a selector on a device.
#[derive(Debug, thiserror::Error)]
#[error("{place}: selector {expression:?} failed on device {device}: {error}")]
pub(crate) struct SelectorError {
    place: String,
    expression: String,
    device: String,
    error: String,
}

/// Evaluator of selectors. It holds the function library and a cache of parsed versions and quantities.
pub(crate) struct Evaluator {
    library: Context<'static>,
    versions: BTreeMap<String, Option<Value>>,
    quantities: BTreeMap<String, Option<Value>>,
}

impl Evaluator {
    pub(crate) fn new() -> Self {
        Self {
            library: Context::default().with_all(),
            versions: BTreeMap::new(),
            quantities: BTreeMap::new(),
        }
    }

    /// Returns whether the device meets all selectors.
    ///
    /// # Errors
    /// Fails if a selector cannot be evaluated on this device, which counts as not met.
    pub(crate) fn matches(
        &mut self,
        selectors: &[Selector],
        driver: &str,
        device: &Device,
    ) -> Result<bool, SelectorError> {
        if selectors.is_empty() {
            return Ok(true);
        }
        let variable = self.device(selectors, driver, device);
        let mut scope = self.library.new_inner_scope();
        scope.add_variable_from_value("device", variable);
        for selector in selectors {
            let failed = |error: String| SelectorError {
                place: selector.place.clone(),
                expression: selector.expression.clone(),
                device: device.name.clone(),
                error,
            };
            match scope.resolve(&selector.compiled) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => return Err(failed("its value is not a bool".to_owned())),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        Ok(true)
    }

    fn device(&mut self, selectors: &[Selector], driver: &str, device: &Device) -> Value {
        let empty = || -> BTreeMap<String, HashMap<Key, Value>> {
            let domains = selectors.iter().flat_map(|s| &s.domains);
            domains.map(|domain| (domain.clone(), HashMap::new())).collect()
        };
        let mut attributes = empty();
        for (name, attribute) in device.attributes.iter().flatten() {
            let (domain, id) = qualified(name, driver);
            if let Some(value) = self.attribute(attribute) {
                attributes.entry(domain.to_owned()).or_default().insert(Key::from(id), value);
            }
        }
        let mut capacity = empty();
        for (name, amount) in device.capacity.iter().flatten() {
            let (domain, id) = qualified(name, driver);
            if let Some(value) = self.quantity(&amount.value.0) {
                capacity.entry(domain.to_owned()).or_default().insert(Key::from(id), value);
            }
        }
        let fields: HashMap<Key, Value> = [
            (Key::from("driver"), Value::from(driver)),
            (Key::from("attributes"), Value::from(attributes.into_iter().collect::<HashMap<_, _>>())),
            (Key::from("capacity"), Value::from(capacity.into_iter().collect::<HashMap<_, _>>())),
            (
                Key::from("allowMultipleAllocations"),
                Value::Bool(device.allow_multiple_allocations.unwrap_or(false)),
            ),
        ]
        .into();
        Value::from(fields)
    }

    fn attribute(&mut self, attribute: &DeviceAttribute) -> Option<Value> {
        if let Some(int) = attribute.int {
            return Some(Value::Int(int));
        }
        if let Some(bool) = attribute.bool {
            return Some(Value::Bool(bool));
        }
        if let Some(string) = &attribute.string {
            return Some(Value::from(string.as_str()));
        }
        let version = attribute.version.as_ref()?;
        typed(&self.library, &mut self.versions, "semver(text)", version)
    }

    fn quantity(&mut self, quantity: &str) -> Option<Value> {
        typed(&self.library, &mut self.quantities, "quantity(text)", quantity)
    }
}

/// Converts a text to a typed value by the function library itself, and caches the result by the text.
fn typed(
    library: &Context<'static>,
    cache: &mut BTreeMap<String, Option<Value>>,
    conversion: &str,
    text: &str,
) -> Option<Value> {
    if let Some(value) = cache.get(text) {
        return value.clone();
    }
    let mut scope = library.new_inner_scope();
    scope.add_variable_from_value("text", text);
    let value = Program::compile(conversion).ok().and_then(|program| program.execute(&scope).ok());
    cache.insert(text.to_owned(), value.clone());
    value
}

/// Splits the name of an attribute or capacity into domain and id.
pub(crate) fn qualified<'a>(name: &'a str, driver: &'a str) -> (&'a str, &'a str) {
    name.split_once('/').unwrap_or((driver, name))
}

/// Collects the literals d of every `….attributes[d]` and `….capacity[d]`.
fn indexed_domains(expression: &Expression, domains: &mut BTreeSet<String>) {
    match &expression.expr {
        Expr::Call(call) => {
            if let [base, key] = call.args.as_slice()
                && call.func_name.starts_with("_[")
                && let Expr::Select(select) = &base.expr
                && matches!(select.field.as_str(), "attributes" | "capacity")
                && let Expr::Literal(LiteralValue::String(domain)) = &key.expr
            {
                domains.insert(domain.inner().to_owned());
            }
            call.target.iter().for_each(|target| indexed_domains(target, domains));
            call.args.iter().for_each(|arg| indexed_domains(arg, domains));
        }
        Expr::Comprehension(comprehension) => {
            for part in [
                &comprehension.iter_range,
                &comprehension.accu_init,
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ] {
                indexed_domains(part, domains);
            }
        }
        Expr::List(list) => list.elements.iter().for_each(|element| indexed_domains(element, domains)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    indexed_domains(&entry.key, domains);
                    indexed_domains(&entry.value, domains);
                }
            }
        }
        Expr::Select(select) => indexed_domains(&select.operand, domains),
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}
