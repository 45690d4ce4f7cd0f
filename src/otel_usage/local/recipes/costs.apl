// title: Cost per customer
// question: What does each customer cost, by a price list of models and providers?
// note: Whatever the list has no price for costs nothing here, and is counted as unpriced.
// note: A model call has a record of its own beside the HTTP requests that carry it: give its price to the model and none to its provider.
// chart: bar x=customer y=model_cost,call_cost
// parameter: prices!
// parameter: window = 1d
// parameter: customer
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] in ("llm", "upstream")
| where ['attributes.custom']['usage.customer.id'] == {customer}
| extend id = tostring(['attributes.custom']['usage.customer.id']), record = tostring(['attributes.custom']['usage.kind'])
| extend model = tostring(['attributes.gen_ai.request.model']), provider = tostring(['attributes.custom']['usage.provider'])
| extend tokens_in = coalesce(['attributes.gen_ai.usage.input_tokens'], 0), tokens_out = coalesce(['attributes.gen_ai.usage.output_tokens'], 0)
| summarize arg_max(_time, id, record, model, provider, tokens_in, tokens_out) by trace_id, span_id // each span once
| summarize attempts = count(), tokens_in = sum(tokens_in), tokens_out = sum(tokens_out) by id, record, model, provider
| extend model_cost = iff(record == "llm", (tokens_in * {input_price} + tokens_out * {output_price}) / 1000000.0, 0.0)
| extend call_cost = iff(record == "upstream", attempts * {call_price}, 0.0)
| extend priced = iff(record == "llm", model in {priced_models}, provider in {priced_providers})
| summarize model_calls = sumif(attempts, record == "llm"), calls = sumif(attempts, record == "upstream"), model_cost = sum(model_cost), call_cost = sum(call_cost), unpriced = sumif(attempts, not(priced)) by customer = iff(isempty(id), "(unidentified)", id)
| extend cost = model_cost + call_cost
| order by cost desc, customer asc
| take {limit}
