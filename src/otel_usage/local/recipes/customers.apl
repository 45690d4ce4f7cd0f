// title: Requests and errors per customer
// question: Who sends requests, how many of them fail, and how much is answered?
// note: An error is a request that was not served: one whose reason is none of `ok`, `preflight`, `not_modified` and `idempotent_replay`.
// note: What one of your services asks another is a request of the same customer, too: where several are observed, name the one that customers call with `service`.
// chart: bar x=customer y=requests,errors
// parameter: window = 1h
// parameter: customer
// parameter: service
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "request"
| where ['service.name'] == {service}
| where ['attributes.custom']['usage.customer.id'] == {customer}
| extend id = tostring(['attributes.custom']['usage.customer.id']), tier = tolong(['attributes.custom']['usage.tier'])
| extend reason = tostring(['attributes.custom']['usage.reason']), bytes = ['attributes.http.response.body.size']
| extend failed = error == true or coalesce(['attributes.http.response.status_code'], 0) >= 400 or isnotempty(['attributes.error.type'])
| summarize arg_max(_time, id, tier, reason, bytes, failed) by trace_id, span_id // each span once
| extend customer = case(isnotempty(id), id, tier == 0, "(anonymous)", "(unidentified)")
| extend unserved = iff(isempty(reason), failed, reason !in ("ok", "preflight", "not_modified", "idempotent_replay"))
| summarize requests = count(), errors = countif(unserved), bytes_out = sum(bytes) by customer
| extend error_percent = round(100.0 * errors / requests, 2)
| order by requests desc, customer asc
| take {limit}
