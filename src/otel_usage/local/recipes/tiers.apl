// title: Premium against free per route
// question: Which routes are paid for, and which are used for nothing?
// note: Premium is tier 1 and above, free is tier 0. A request whose tier is not known is neither.
// chart: bar x=route y=premium,free,unknown
// parameter: window = 1h
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "request"
| extend route = iff(isempty(['attributes.http.route']), "(none)", ['attributes.http.route']), tier = tolong(['attributes.custom']['usage.tier'])
| summarize arg_max(_time, route, tier) by trace_id, span_id // each span once
| summarize requests = count(), premium = countif(tier > 0), free = countif(tier == 0), unknown = countif(isnull(tier)) by route
| extend premium_percent = round(100.0 * premium / requests, 2)
| order by requests desc, route asc
| take {limit}
