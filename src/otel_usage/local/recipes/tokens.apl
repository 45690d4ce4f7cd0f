// title: Tokens per customer and model
// question: How many tokens does each customer use of each model, and how much of it goes into attempts that were not answered?
// note: Amplification is the number of attempts for each one that was answered. 0: none was.
// chart: bar x=customer,model y=input_tokens,output_tokens
// parameter: window = 1d
// parameter: customer
// parameter: limit = 50
['{dataset}']
| where _time >= ago({window})
| where ['attributes.custom']['usage.kind'] == "llm"
| where ['attributes.custom']['usage.customer.id'] == {customer}
| extend id = tostring(['attributes.custom']['usage.customer.id']), named = tostring(['attributes.gen_ai.request.model'])
| extend tokens_in = coalesce(['attributes.gen_ai.usage.input_tokens'], 0), tokens_out = coalesce(['attributes.gen_ai.usage.output_tokens'], 0)
| extend answered = tostring(['attributes.custom']['usage.reason']) == "ok", fallback = tolong(['attributes.custom']['usage.llm.fallback_index'])
| summarize arg_max(_time, id, named, tokens_in, tokens_out, answered, fallback) by trace_id, span_id // each span once
| extend customer = iff(isempty(id), "(unidentified)", id), model = iff(isempty(named), "(none)", named)
| summarize attempts = count(), answered = countif(answered), fallbacks = countif(fallback > 0), input_tokens = sum(tokens_in), output_tokens = sum(tokens_out), unanswered_tokens = sumif(tokens_in + tokens_out, not(answered)) by customer, model
| extend amplification = iff(answered > 0, round(1.0 * attempts / answered, 3), 0.0)
| order by input_tokens desc, customer asc, model asc
| take {limit}
