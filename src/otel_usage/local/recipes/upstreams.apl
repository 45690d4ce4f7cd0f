// title: Upstream calls per customer and provider
// question: What does each customer cost at each provider, in calls, bytes and time?
// note: Each attempt is a call. Resent are those that had been sent before.
// chart: bar x=customer,provider y=calls,errors
// parameter: window = 1h
// parameter: customer
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "upstream"
| where ['attributes.custom']['usage.customer.id'] == {customer}
| extend id = tostring(['attributes.custom']['usage.customer.id']), named = tostring(['attributes.custom']['usage.provider'])
| extend bytes = ['attributes.http.response.body.size'], resend = ['attributes.http.request.resend_count'], ms = duration / 1ms
| extend failed = error == true or coalesce(['attributes.http.response.status_code'], 0) >= 400 or isnotempty(['attributes.error.type'])
| summarize arg_max(_time, id, named, bytes, resend, ms, failed) by trace_id, span_id // each span once
| extend customer = iff(isempty(id), "(unidentified)", id), provider = iff(isempty(named), "(none)", named)
| summarize calls = count(), errors = countif(failed), resent = countif(resend > 0), bytes_in = sum(bytes), p95_ms = percentile(ms, 95) by customer, provider
| order by calls desc, customer asc, provider asc
| take {limit}
