//! What is valid, across groups.

use super::*;

fn sidecar() -> Settings {
    with_settings!(Settings::default(), servers.upstream = Some("127.0.0.1:9000".into()))
}

#[test]
fn defaults_need_nothing_but_an_upstream() {
    sidecar().validate().unwrap();
    assert_eq!(Settings::default().validate().unwrap_err().field, "upstream");
}

#[test]
fn errors_name_the_field_and_what_is_allowed() {
    let error = |settings: Settings| settings.validate().unwrap_err().to_string();
    let settings = with_settings!(sidecar(), batching.allowed_batch_rows = vec![1, 128]);
    assert_eq!(error(settings), "allowedBatchRows: 128 is not between 1 and maxBatchRows (64)");
    let settings = with_settings!(sidecar(), observe.trace_sample_ratio = 1.5);
    assert_eq!(error(settings), "traceSampleRatio: 1.5 is not between 0 and 1");
    let settings = with_settings!(sidecar(), observe.trace_sample_ratio = f64::NAN);
    assert_eq!(error(settings), "traceSampleRatio: NaN is not between 0 and 1");
    let settings = with_settings!(sidecar(), observe.otlp_endpoint = Some("http://x".into()));
    assert_eq!(error(settings), "otlpEndpoint: \"http://x\" is not host:port");
    let settings = with_settings!(sidecar(), limits.max_header_bytes = 100);
    assert_eq!(error(settings), "maxHeaderBytes: 100 is not between 8192 and 16777216");
    let settings = with_settings!(sidecar(), servers.probe_ms = 0);
    assert_eq!(error(settings), "probeMs: must be at least 1");
    let settings = with_settings!(sidecar(), limits.max_tensors = 1 << 20);
    assert_eq!(error(settings), "maxTensors: 1048576 is more than 16384");
    let settings = with_settings!(sidecar(), access.pass_paths = vec!["docs".into()]);
    assert_eq!(error(settings), "passPaths: \"docs\" must begin with /, and stand without escapes");
    let settings = with_settings!(sidecar(), drain.drain_token = Some("a b".into()));
    assert_eq!(settings.validate().unwrap_err().field, "drainToken");
    let settings = with_settings!(sidecar(), servers.upstream = Some("nowhere".into()));
    let error = error(settings);
    assert!(error.contains("\"nowhere\" is not host:port"), "{error}");
}

#[test]
fn the_flat_form_has_each_setting_once_and_reads_back_what_it_wrote() {
    let mut names: Vec<&str> = Settings::rows().map(|row| row.setting.name).collect();
    let settings = with_settings!(sidecar(), batching.max_batch_rows = 7, servers.retries = 0);
    let written = settings.by_name();
    assert_eq!(written.len(), names.len(), "each name once");
    let read: Settings = serde_json::from_value(Value::Object(written.clone())).unwrap();
    assert_eq!(read.by_name(), written);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), written.len());
}

#[test]
fn names_in_the_file_are_the_fields_in_camel_case() {
    for row in Settings::rows() {
        let mut words = row.field.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        let camel = words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..]);
        assert_eq!(row.setting.name, camel);
    }
}
