"""What a request costs with usage on: one application, bare, with otel_usage, and with what else there is."""
