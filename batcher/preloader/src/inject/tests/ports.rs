//! The sidecar's ports, and those of its pod.

use serde_json::{Value, json};

use super::*;

/// The sidecar's front and admin port, and where its probes, the model's probes and the drain go.
fn ports(document: &Value) -> (i64, i64) {
    let sidecar = &document["spec"]["initContainers"][1];
    let model = &document["spec"]["containers"][0];
    let (front, admin) = (&sidecar["ports"][0], &sidecar["ports"][1]);
    let number = |port: &Value| port["containerPort"].as_i64().unwrap();
    let (front, admin) = ((front["name"].as_str(), number(front)), (admin["name"].as_str(), number(admin)));
    assert_eq!((front.0, admin.0), (Some("http"), Some("sluice-admin")), "others find both by their names");
    for probe in [&sidecar["startupProbe"], &sidecar["readinessProbe"], &sidecar["livenessProbe"]] {
        assert_eq!(probe["httpGet"]["port"], admin.1);
    }
    for probe in [&model["startupProbe"], &model["livenessProbe"], &model["lifecycle"]["preStop"]] {
        assert_eq!(probe["httpGet"]["port"], admin.1, "{probe}");
    }
    let arguments = sidecar["args"].to_string();
    assert!(arguments.contains(&format!("\"--listen=0.0.0.0:{}\"", front.1)), "{arguments}");
    assert!(arguments.contains(&format!("\"--admin-listen=0.0.0.0:{}\"", admin.1)), "{arguments}");
    (front.1, admin.1)
}

#[test]
fn a_model_on_the_sidecars_usual_ports_moves_the_sidecar() {
    let with = |own: Value, other: Value| {
        injected(&pod(|pod| {
            pod["spec"]["containers"][0]["ports"][1]["containerPort"] = own;
            pod["spec"]["containers"][1]["ports"] = other;
        }))
    };
    let usual = with(json!(9000), json!([{ "containerPort": 7000 }]));
    assert_eq!(ports(&usual), (8080, 8081));
    let model = with(json!(8080), json!([]));
    assert_eq!(ports(&model), (18080, 18081));
    assert!(model["spec"]["initContainers"][1]["args"].to_string().contains("--upstream=127.0.0.1:8080"));
    assert_eq!(ports(&with(json!(9000), json!([{ "containerPort": 8081 }]))), (18080, 18081));
    let crowded = json!([{ "containerPort": 18080 }, { "containerPort": 18081 }]);
    assert_eq!(ports(&with(json!(8080), crowded)), (18082, 18083));
    let service = |target: i32| -> Service {
        let ports = json!([{ "port": 80, "targetPort": target }]);
        serde_json::from_value(json!({
            "metadata": { "name": "bert" }, "spec": { "selector": { "app": "bert" }, "ports": ports },
        }))
        .unwrap()
    };
    let on_8080 = pod(|pod| pod["spec"]["containers"][0]["ports"][1]["containerPort"] = json!(8080));
    assert!(passes_by(&service(8080), &on_8080).is_some(), "8080 is the model now");
    assert!(passes_by(&service(18080), &on_8080).is_none());
}

#[test]
fn a_pod_says_the_sidecars_ports_itself() {
    let wishing = |front: &str, admin: &str| {
        let (front, admin) = (front.to_owned(), admin.to_owned());
        move |pod: &mut Value| {
            pod["metadata"]["annotations"][names::FRONT_PORT_ANNOTATION] = json!(front);
            pod["metadata"]["annotations"][names::ADMIN_PORT_ANNOTATION] = json!(admin);
        }
    };
    assert_eq!(ports(&injected(&pod(wishing("8000", "8001")))), (8000, 8001));
    let front_alone = pod(|pod| pod["metadata"]["annotations"][names::FRONT_PORT_ANNOTATION] = json!("8081"));
    assert_eq!(ports(&injected(&front_alone)), (8081, 8082));
    for (front, admin, field) in [
        ("9000", "8001", names::FRONT_PORT_ANNOTATION),
        ("8000", "9002", names::ADMIN_PORT_ANNOTATION),
        ("8000", "8000", names::ADMIN_PORT_ANNOTATION),
        ("80", "8001", names::FRONT_PORT_ANNOTATION),
        ("http", "8001", names::FRONT_PORT_ANNOTATION),
        ("8000", "70000", names::ADMIN_PORT_ANNOTATION),
    ] {
        let refused = refusal(wishing(front, admin));
        assert_eq!(refused.field, format!("metadata.annotations[{field}]"), "{refused}");
    }
}
