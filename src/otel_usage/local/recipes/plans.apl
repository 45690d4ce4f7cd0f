// title: Customers near their plan's limit
// question: Who has used up most of what the plan allows?
// note: Every request of an identified customer counts, whatever became of it, and none that merely claims to be theirs. A plan that is not given a limit is left out.
// note: What one of your services asks another is a request of the same customer, too: where several are observed, name the one that customers call with `service`.
// chart: bar x=customer y=used_percent
// parameter: plans!
// parameter: window = 30d
// parameter: customer
// parameter: service
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "request"
| where ['service.name'] == {service}
| where ['attributes.custom']['usage.customer.id'] == {customer}
| extend customer = tostring(['attributes.custom']['usage.customer.id']), plan = tostring(['attributes.custom']['usage.plan'])
| where isnotempty(customer) and tostring(['attributes.custom']['usage.identity.provenance']) != "unverified"
| summarize arg_max(_time, customer, plan) by trace_id, span_id // each span once
| summarize requests = count() by customer, plan
| extend allowed = {plan_limit}
| where allowed > 0
| extend used_percent = round(100.0 * requests / allowed, 2)
| order by used_percent desc, customer asc, plan asc
| take {limit}
