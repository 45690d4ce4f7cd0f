"""What a request costs with usage on: the same application bare, with otel_usage and with stock OpenTelemetry."""
