// title: Telemetry per minute
// question: Does usage arrive, of every kind, and does it say whom it is of?
// note: A minute without a row is one without usage. Repeated are deliveries of what had arrived before; the local store keeps none of them.
// note: The span of `otel-usage check --send` is not counted: it is nobody's, and telemetry that is silent stays so.
// note: What was dropped, is waiting or was given up is in no span. The ledger has it: `usage.health()`, the metrics `otel_usage.*`, and the last line of each process's log.
// chart: line x=minute y=requests,upstream,llm,custom
// parameter: window = 1h
// parameter: limit = 1440
['{dataset}']
| where _time >= ago({window})
| where name != "otel-usage check"
| extend record = tostring(['attributes.custom']['usage.kind']), provenance = tostring(['attributes.custom']['usage.identity.provenance']), deliveries = 1
| summarize deliveries = sum(deliveries), arg_max(_time, record, provenance) by trace_id, span_id // each span once
| summarize spans = count(), deliveries = sum(deliveries), requests = countif(record == "request"), upstream = countif(record == "upstream"), llm = countif(record == "llm"), custom = countif(record == "custom"), identity_unavailable = countif(record == "request" and provenance == "unavailable"), unidentified = countif(record == "request" and isempty(provenance)) by minute = bin(_time, 1m)
| extend repeated = deliveries - spans
| project minute, spans, requests, upstream, llm, custom, identity_unavailable, unidentified, repeated
| order by minute desc
| take {limit}
