// title: Rejections by reason
// question: Why were requests not served, and whose were they?
// note: Customers are those that were identified; a request of nobody known counts among the requests alone.
// chart: bar x=reason y=requests
// parameter: window = 1h
// parameter: customer
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "request"
| where ['attributes.custom']['usage.customer.id'] == {customer}
| extend customer = tostring(['attributes.custom']['usage.customer.id']), reason = tostring(['attributes.custom']['usage.reason'])
| where isnotempty(reason) and reason !in ("ok", "preflight", "not_modified", "idempotent_replay")
| summarize arg_max(_time, customer, reason) by trace_id, span_id // each span once
| summarize requests = count() by reason, customer
| summarize requests = sum(requests), customers = countif(isnotempty(customer)) by reason
| order by requests desc, reason asc
| take {limit}
