// title: Cache tiers per route
// question: How long may the answers of each route be cached?
// note: The tier is the class of the `Cache-Control` that was answered. `(none)`: the answer had none.
// chart: bar x=route,tier y=requests
// parameter: window = 1h
// parameter: limit = 100
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "request"
| extend route = iff(isempty(['attributes.http.route']), "(none)", ['attributes.http.route'])
| extend cache_tier = tostring(['attributes.custom']['usage.cache.tier'])
| summarize arg_max(_time, route, cache_tier) by trace_id, span_id // each span once
| summarize requests = count() by route, tier = iff(isempty(cache_tier), "(none)", cache_tier)
| order by requests desc, route asc, tier asc
| take {limit}
