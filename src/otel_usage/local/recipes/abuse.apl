// title: Anonymous hot spots
// question: Where do requests without a credential come from, and what do they want?
// note: A country is known where a declared proxy says it (`USAGE_TRUSTED_PROXY`). Limited are those that a rate limit has refused.
// chart: bar x=route,country y=requests,limited
// parameter: window = 1h
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "request"
| where ['attributes.custom']['usage.auth.kind'] == "anon"
| extend route = iff(isempty(['attributes.http.route']), "(none)", ['attributes.http.route'])
| extend country = iff(isempty(['attributes.geo.country.iso_code']), "(unknown)", ['attributes.geo.country.iso_code'])
| extend reason = tostring(['attributes.custom']['usage.reason'])
| summarize arg_max(_time, route, country, reason) by trace_id, span_id // each span once
| summarize requests = count(), limited = countif(reason startswith "rate_limit"), not_found = countif(reason in ("unknown_route", "not_found")) by route, country
| order by requests desc, route asc, country asc
| take {limit}
