"""From a payload to what became of it: one attempt, one payload, and all that waits."""
