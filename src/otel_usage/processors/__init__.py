"""Span processors: the allowlist and delivery. Both are ordinary ones, for any ``TracerProvider``."""
