// title: One request's story
// question: What happened in one request, in order: what it called, for whom, and how it ended?
// note: The id is that of its trace, or the one that Sentry knows it by.
// chart: table
// parameter: trace!
// parameter: window = 7d
// parameter: limit = 500
['{dataset}']
| where _time >= ago({window})
| where trace_id == {trace} or trace_id in (
    ['{dataset}']
    | where _time >= ago({window})
    | where ['attributes.custom']['usage.sentry.trace_id'] == {trace}
    | distinct trace_id
)
| extend record = tostring(['attributes.custom']['usage.kind']), customer = tostring(['attributes.custom']['usage.customer.id']), ms = duration / 1ms
| extend provider = tostring(['attributes.custom']['usage.provider']), operation = tostring(['attributes.custom']['usage.operation'])
| extend reason = tostring(['attributes.custom']['usage.reason']), model = tostring(['attributes.gen_ai.request.model'])
| extend status = ['attributes.http.response.status_code'], error_type = tostring(['attributes.error.type']), service = tostring(['service.name'])
| summarize arg_max(_time, service, record, name, customer, provider, operation, model, status, reason, error_type, ms, parent_span_id) by trace_id, span_id // each span once
| order by _time asc, span_id asc
| project _time, ms, service, record, name, customer, provider, operation, model, status, reason, error_type, trace_id, span_id, parent_span_id
| take {limit}
