//! One ValidatingAdmissionPolicy of the manifests, evaluated.

use std::collections::HashMap;
use std::path::Path;

use kube_cel::KubeCelExt;
use kube_cel::cel::objects::{Key, Map, ResolveResult};
use kube_cel::cel::{Context, Program, Value as Cel};
use serde_json::{Map as JsonMap, Value, json};

/// A policy and its binding.
pub(crate) struct Policy {
    spec: Value,
}

/// What is asked of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    pub(crate) request: Value,
    pub(crate) object: Value,
    pub(crate) old_object: Value,
    pub(crate) params: Value,
}

impl Policy {
    /// Reads it from a manifest, with the binding that puts it into force.
    pub(crate) fn read(file: &str, name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
        let of_kind = |kind: &str| {
            let mut found = documents
                .iter()
                .filter(|document| document["kind"] == kind && document["metadata"]["name"] == name);
            found.next().unwrap_or_else(|| panic!("{file}: no {kind} {name}")).clone()
        };
        let binding = of_kind("ValidatingAdmissionPolicyBinding");
        assert_eq!(binding["spec"]["policyName"], name);
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
        let spec = of_kind("ValidatingAdmissionPolicy")["spec"].clone();
        Self { spec }
    }

    /// Whether it is about the account that asks at all.
    pub(crate) fn concerns(&self, question: &Question) -> bool {
        let context = context(question);
        let mut conditions = self.spec["matchConditions"].as_array().unwrap().iter();
        conditions.all(|condition| evaluate(&context, &condition["expression"]).unwrap() == Cel::Bool(true))
    }

    /// Why it is refused: every message that the API server could give; empty where it is allowed.
    pub(crate) fn refusals(&self, question: &Question) -> Vec<String> {
        let mut context = context(question);
        let mut variables: HashMap<Key, Cel> = HashMap::new();
        for variable in self.spec["variables"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap().to_owned();
            // The API server evaluates a variable where it is read, and fails there.
            if let Ok(value) = evaluate(&context, &variable["expression"]) {
                variables.insert(name.into(), value);
            }
            context.add_variable_from_value("variables", Cel::Map(Map::from(variables.clone())));
        }
        let refusal = |validation: &Value| match evaluate(&context, &validation["expression"]) {
            Ok(Cel::Bool(true)) => None,
            Ok(Cel::Bool(false)) => Some(match validation.get("messageExpression") {
                Some(message) => match evaluate(&context, message) {
                    Ok(Cel::String(text)) => text.to_string(),
                    other => panic!("the message {message} is {other:?}"),
                },
                None => validation["message"].as_str().unwrap().to_owned(),
            }),
            other => Some(format!("not evaluated: {other:?}")),
        };
        self.spec["validations"].as_array().unwrap().iter().filter_map(refusal).collect()
    }
}

fn context(question: &Question) -> Context<'static> {
    let mut context = Context::default().with_all();
    // Only types differ, and there are none here.
    context.add_function("dyn", |value: Cel| -> ResolveResult { Ok(value) });
    for (name, value) in [
        ("request", &question.request),
        ("object", &question.object),
        ("oldObject", &question.old_object),
        ("params", &question.params),
    ] {
        context.add_variable_from_value(name, cel(value));
    }
    context
}

/// A value as the API server hands it over: names as they are, whole numbers signed.
fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(is) => Cel::Bool(*is),
        Value::Number(number) => number.as_i64().map_or_else(|| number.as_f64().unwrap().into(), Cel::Int),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(cel).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (Key::from(name.clone()), cel(value)));
            Cel::Map(Map::from(fields.collect::<HashMap<_, _>>()))
        }
    }
}

fn evaluate(context: &Context<'static>, expression: &Value) -> Result<Cel, String> {
    let text = expression.as_str().unwrap();
    let program = Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    program.execute(context).map_err(|error| error.to_string())
}

/// A request of a service account of the system's namespace.
pub(crate) fn request(account: &str, operation: &str, resource: &str, more: Value) -> Value {
    let mut request: JsonMap<String, Value> = JsonMap::new();
    request.insert("operation".into(), operation.into());
    request.insert("resource".into(), json!({ "group": "", "version": "v1", "resource": resource }));
    let user = format!("system:serviceaccount:sluice-system:{account}");
    request.insert("userInfo".into(), json!({ "username": user, "groups": [] }));
    request.extend(more.as_object().cloned().unwrap_or_default());
    Value::Object(request)
}
