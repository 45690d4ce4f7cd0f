// title: Top movers against last week
// question: Whose requests have grown or shrunk most against the same time a week ago?
// note: What one of your services asks another is a request of the same customer, too: where several are observed, name the one that customers call with `service`.
// chart: bar x=customer y=requests,week_before
// parameter: week_window = 1d
// parameter: service
// parameter: limit = 20
['{dataset}']
| where _time >= ago({week_window_before})
| where _time >= ago({week_window}) or _time < ago(7d)
| where ['attributes.custom']['usage.kind'] == "request"
| where ['service.name'] == {service}
| extend customer = tostring(['attributes.custom']['usage.customer.id']), recent = iff(_time >= ago({week_window}), 1, 0)
| where isnotempty(customer)
| summarize arg_max(_time, customer, recent) by trace_id, span_id // each span once
| summarize requests = sum(recent), week_before = countif(recent == 0) by customer
| extend change = requests - week_before
| extend moved = abs(change)
| order by moved desc, customer asc
| project customer, requests, week_before, change
| take {limit}
