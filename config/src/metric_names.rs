//! Every metric that one component writes and another one (or a dashboard) reads. Times are in seconds,
//! work is in rows (items along dimension 0), ratios are 0 to 1. Names end in their unit or in `_total`.

/// Metrics of `sluice-batcher`, with the label `model` unless stated otherwise.
pub mod batcher {
    /// Counter: rows that arrived, also those that were rejected or held. The autoscaler's demand.
    pub const DEMAND_ROWS_TOTAL: &str = "sluice_batcher_demand_rows_total";
    /// Gauge: rows that wait for a slot.
    pub const QUEUE_ROWS: &str = "sluice_batcher_queue_rows";
    /// Gauge: how long the oldest waiting request has waited.
    pub const OLDEST_WAIT_SECONDS: &str = "sluice_batcher_oldest_wait_seconds";
    /// Gauge: batches at the model servers now.
    pub const INFLIGHT_BATCHES: &str = "sluice_batcher_inflight_batches";
    /// Gauge: slots of upstreams that are ready (warm).
    pub const SLOTS: &str = "sluice_batcher_slots";
    /// Gauge: share of slot time that was busy over the last seconds.
    pub const BUSY_FRACTION: &str = "sluice_batcher_busy_fraction";
    /// Gauge: predicted wait of a request that arrives now.
    pub const PREDICTED_WAIT_SECONDS: &str = "sluice_batcher_predicted_wait_seconds";
    /// Gauge: answers within the objective over all requests, last 30 s.
    pub const ATTAINMENT_RATIO: &str = "sluice_batcher_attainment_ratio";
    /// Gauge: objective that requests without a deadline of their own get.
    pub const OBJECTIVE_SECONDS: &str = "sluice_batcher_objective_seconds";
    /// Gauge: α of the learned service curve L(b) = α + β·b.
    pub const CURVE_ALPHA_SECONDS: &str = "sluice_batcher_curve_alpha_seconds";
    /// Gauge: β of the learned service curve, per row.
    pub const CURVE_BETA_SECONDS: &str = "sluice_batcher_curve_beta_seconds";
    /// Gauge: effective number of batches behind the curve; 0 means that nothing is known yet.
    pub const CURVE_SAMPLES: &str = "sluice_batcher_curve_samples";
    /// Gauge with label `shape_class`: α of the curve of one shape class. The label is the most elements of a row.
    pub const CLASS_CURVE_ALPHA_SECONDS: &str = "sluice_batcher_class_curve_alpha_seconds";
    /// Gauge with label `shape_class`: β of that curve, per row.
    pub const CLASS_CURVE_BETA_SECONDS: &str = "sluice_batcher_class_curve_beta_seconds";
    /// Gauge with label `shape_class`: batches behind that curve; 0 once the class has been forgotten.
    pub const CLASS_CURVE_SAMPLES: &str = "sluice_batcher_class_curve_samples";
    /// Gauge: B*, the most rows that a batch may have now.
    pub const BATCH_ROWS_LIMIT: &str = "sluice_batcher_batch_rows_limit";
    /// Gauge, 0 or 1: a request was held for want of an upstream and has not been served yet.
    pub const DEMAND_LATCHED: &str = "sluice_batcher_demand_latched";
    /// Gauge, 0 or 1, without labels: the settings file was taken over when it last changed.
    pub const SETTINGS_RELOAD_SUCCESSFUL: &str = "sluice_batcher_settings_reload_successful";
    /// Gauge with label `state`: upstreams by state.
    pub const UPSTREAMS: &str = "sluice_batcher_upstreams";
    /// Gauge without labels: requests that wait to hear whether a model server has their model.
    pub const UNCONFIRMED_WAITING: &str = "sluice_batcher_unconfirmed_waiting";
    /// Counter with label `outcome` (`confirmed`, `denied`, `refused`), without a model's name: requests to models that
    /// were not known when they came.
    pub const UNCONFIRMED_REQUESTS_TOTAL: &str = "sluice_batcher_unconfirmed_requests_total";
    /// Gauge without labels: connections of clients.
    pub const CONNECTIONS: &str = "sluice_batcher_connections";
    /// Counter with label `reason` alone: connections that the batcher ended because of what the client did or
    /// left undone, or refused.
    pub const CONNECTIONS_CLOSED_TOTAL: &str = "sluice_batcher_connections_closed_total";
    /// Counter without labels: lines of the access log that were lost, because it could not keep up.
    pub const ACCESS_LOG_DROPPED_TOTAL: &str = "sluice_batcher_access_log_dropped_total";
    /// Counter without labels: spans that were lost, because the collector did not take them.
    pub const SPANS_DROPPED_TOTAL: &str = "sluice_batcher_spans_dropped_total";
    /// Gauge without labels: bytes of the requests that arrive, wait or run.
    pub const REQUEST_BYTES: &str = "sluice_batcher_request_bytes";
    /// Gauge without labels: bytes of the answers that clients have not taken.
    pub const ANSWER_BYTES: &str = "sluice_batcher_answer_bytes";
    /// Counter with label `reason` alone: answers that were given up because their clients did not take them.
    pub const ANSWERS_GIVEN_UP_TOTAL: &str = "sluice_batcher_answers_given_up_total";
    /// Counter with labels `form`, `outcome`: requests that came to an end, by how (`cancelled`: the client left).
    pub const REQUESTS_TOTAL: &str = "sluice_batcher_requests_total";
    /// Counter with label `reason`: requests that were refused, exactly counted.
    pub const REJECTED_TOTAL: &str = "sluice_batcher_rejected_total";
    /// Counter with label `release`: batches by the reason why they were cut.
    pub const BATCHES_TOTAL: &str = "sluice_batcher_batches_total";
    /// Histogram: from the request's last byte to the answer's first.
    pub const REQUEST_DURATION_SECONDS: &str = "sluice_batcher_request_duration_seconds";
    /// Histogram: time in the queue.
    pub const QUEUE_DURATION_SECONDS: &str = "sluice_batcher_queue_duration_seconds";
    /// Histogram: time of one batch at the model server.
    pub const UPSTREAM_DURATION_SECONDS: &str = "sluice_batcher_upstream_duration_seconds";
    /// Counter with label `outcome`: streams that came to an end, by how.
    pub const STREAMS_TOTAL: &str = "sluice_batcher_streams_total";
    /// Counter with label `reason`: streams that were refused.
    pub const STREAMS_REJECTED_TOTAL: &str = "sluice_batcher_streams_rejected_total";
    /// Gauge: streams at the model servers now.
    pub const STREAMS_IN_FLIGHT: &str = "sluice_batcher_streams_in_flight";
    /// Gauge: requests that wait to become streams.
    pub const STREAMS_WAITING: &str = "sluice_batcher_streams_waiting";
    /// Gauge: how long the oldest of them has waited.
    pub const STREAMS_OLDEST_WAIT_SECONDS: &str = "sluice_batcher_streams_oldest_wait_seconds";
    /// Gauge: predicted wait of one that arrives now.
    pub const STREAMS_PREDICTED_WAIT_SECONDS: &str = "sluice_batcher_streams_predicted_wait_seconds";
    /// Gauge: streams of mean cost that may be in flight, at all model servers together; learned.
    pub const STREAMS_LIMIT: &str = "sluice_batcher_streams_limit";
    /// Counter with label `kind` (`prompt`, `completion`): tokens, where answers tell.
    pub const STREAM_TOKENS_TOTAL: &str = "sluice_batcher_stream_tokens_total";
    /// Histogram: from a request's arrival to the first event of its answer.
    pub const STREAM_FIRST_TOKEN_SECONDS: &str = "sluice_batcher_stream_first_token_seconds";
    /// Histogram: from one event of an answer to the next.
    pub const STREAM_INTER_TOKEN_SECONDS: &str = "sluice_batcher_stream_inter_token_seconds";
    /// Histogram: from a request's arrival to the end of its answer.
    pub const STREAM_DURATION_SECONDS: &str = "sluice_batcher_stream_duration_seconds";
    /// Histogram: time at the gate.
    pub const STREAM_QUEUE_DURATION_SECONDS: &str = "sluice_batcher_stream_queue_duration_seconds";
    /// Histogram: rows of a batch.
    pub const BATCH_ROWS: &str = "sluice_batcher_batch_rows";
    /// Rows added to batches to make them of an allowed size.
    pub const PADDING_ROWS_TOTAL: &str = "sluice_batcher_padding_rows_total";
}

/// Metrics of `sluice-driver`.
pub mod driver {
    /// Gauge with label `profile`: prepared slices.
    pub const SLICES_IN_USE: &str = "sluice_driver_slices_in_use";
    /// Histogram: time of one claim's prepare.
    pub const PREPARE_DURATION_SECONDS: &str = "sluice_driver_prepare_duration_seconds";
    /// Histogram: time of one claim's unprepare.
    pub const UNPREPARE_DURATION_SECONDS: &str = "sluice_driver_unprepare_duration_seconds";
    /// Counter with label `profile`: seconds from the start of prepare to the end of unprepare, summed
    /// over slices; grows while a slice is in use and never goes back, also after a restart.
    pub const SLICE_SECONDS_TOTAL: &str = "sluice_driver_slice_seconds_total";
    /// Counter with label `operation`, `outcome`: calls of the kubelet.
    pub const OPERATIONS_TOTAL: &str = "sluice_driver_operations_total";
    /// Gauge with label `reason`: devices that are tainted or not published.
    pub const DEVICES_WITHHELD: &str = "sluice_driver_devices_withheld";
    /// Gauge with label `neighbour`, 0 or 1: others that hand out the node's GPUs or cut them.
    pub const NEIGHBOURS: &str = "sluice_driver_neighbours";
    /// Counter with label `device`: critical errors (XID) that the GPUs reported.
    pub const XID_EVENTS_TOTAL: &str = "sluice_driver_xid_events_total";
}

/// Metrics of `sluice-autoscaler`; label `name` is `<namespace>/<name>` of the InferenceAutoscaler.
pub mod autoscaler {
    /// Gauge: replicas that were asked for last.
    pub const DESIRED_REPLICAS: &str = "sluice_autoscaler_desired_replicas";
    /// Gauge: replicas that exist.
    pub const CURRENT_REPLICAS: &str = "sluice_autoscaler_current_replicas";
    /// Gauge: replicas that take traffic.
    pub const READY_REPLICAS: &str = "sluice_autoscaler_ready_replicas";
    /// Gauge with label `profile`: slices of a target's profile that could still be placed.
    pub const FREE_SLICES: &str = "sluice_autoscaler_free_slices";
    /// Counter with label `reason`: decisions.
    pub const DECISIONS_TOTAL: &str = "sluice_autoscaler_decisions_total";
    /// Gauge, 0 or 1: fewer replicas than wanted, for want of slices.
    pub const CAPACITY_LIMITED: &str = "sluice_autoscaler_capacity_limited";
    /// Gauge, 0 or 1: the signals are complete and recent.
    pub const METRICS_FRESH: &str = "sluice_autoscaler_metrics_fresh";
    /// Histogram: time of one tick, from scrape to acted.
    pub const TICK_DURATION_SECONDS: &str = "sluice_autoscaler_tick_duration_seconds";
}

/// Metrics of `sluice-preloader`.
pub mod preloader {
    /// Histogram: from when a gate could be lifted until the API server has lifted it.
    pub const LIFT_LATENCY_SECONDS: &str = "sluice_preloader_lift_latency_seconds";
    /// Gauge with label `reason`: pods that are held by a gate, by why it stays.
    pub const GATED_PODS: &str = "sluice_preloader_gated_pods";
    /// Counter with label `why`: gates that were lifted; `deadline` and `needs_node` without a free slice.
    pub const GATES_LIFTED_TOTAL: &str = "sluice_preloader_gates_lifted_total";
    /// Counter: lifts that the API server refused.
    pub const LIFTS_REFUSED_TOTAL: &str = "sluice_preloader_lifts_refused_total";
}
