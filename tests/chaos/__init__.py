"""Fault injection: what clients of telemetry lose, repeat and cost while their sink misbehaves."""
