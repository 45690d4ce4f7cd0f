// title: Cache hits per provider
// question: How many calls does the cache in front of each provider save?
// note: A hit is an answer from the cache, also a stale one or a stored failure. Refreshed are the calls that were made for a better answer after a stale one was served.
// chart: bar x=provider y=hits,misses
// parameter: window = 1h
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] in ("request", "custom") and array_length(events) > 0
| summarize arg_max(_time, events) by trace_id, span_id // each span once
| mv-expand events
| where tostring(events['name']) == "usage.cache"
| project named = tostring(events['attributes']['usage.provider']), status = tostring(events['attributes']['usage.cache.status']), called = false
| union (
    ['{dataset}']
    | where _time >= ago({window})
    | where ['attributes.custom']['usage.kind'] == "upstream"
    | extend named = tostring(['attributes.custom']['usage.provider']), status = tostring(['attributes.custom']['usage.cache.status'])
    | where isnotempty(status)
    | summarize arg_max(_time, named, status) by trace_id, span_id // each span once
    | project named, status, called = true
)
| extend provider = iff(isempty(named), "(none)", named)
| summarize hits = countif(not(called) and status != "miss"), misses = countif(status == "miss"), refreshed = countif(called and status != "miss") by provider
| extend hit_percent = iff(hits + misses > 0, round(100.0 * hits / (hits + misses), 2), 0.0)
| order by hits desc, misses desc, provider asc
| take {limit}
