"""What usage takes beside a request's own cost: the wire, memory, start, latency, stalls, and a day of it."""
