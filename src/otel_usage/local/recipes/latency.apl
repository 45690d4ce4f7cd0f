// title: Latency per route
// question: How long do the requests of each route take?
// note: Milliseconds until the last byte. Locally a percentile is a request's own duration (nearest rank); Axiom estimates it.
// chart: bar x=route y=p50_ms,p95_ms,p99_ms
// parameter: window = 1h
// parameter: customer
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "request"
| where ['attributes.custom']['usage.customer.id'] == {customer}
| extend route = iff(isempty(['attributes.http.route']), "(none)", ['attributes.http.route']), ms = duration / 1ms
| summarize arg_max(_time, route, ms) by trace_id, span_id // each span once
| summarize requests = count(), p50_ms = percentile(ms, 50), p95_ms = percentile(ms, 95), p99_ms = percentile(ms, 99) by route
| order by requests desc, route asc
| take {limit}
