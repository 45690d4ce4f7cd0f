"""Strings that look like a secret do not leave. Pure; runs on the worker, never on a request's thread."""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[redacted]"
"""Stands in the place of what was taken out."""

_SECRET: Final = re.compile(
    "|".join(
        (
            r"(?i:\b(?:bearer|basic)\s+[a-z0-9._~+/=-]{8,})",  # an Authorization header (RFC 6750, RFC 7617)
            r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?",  # a JSON Web Token (RFC 7519)
            r"\bxa(?:at|pt)-[A-Za-z0-9-]{8,}",  # Axiom API and personal tokens
            r"\b(?:sk|pk|rk)[_-](?:live|test|proj|ant|or)[_-][A-Za-z0-9_-]{8,}",  # Stripe, OpenAI, Anthropic and kin
            r"\bsk-[A-Za-z0-9]{20,}",
            r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS access keys
            r"\bgh[pousr]_[A-Za-z0-9]{20,}",  # GitHub tokens
            r"\bxox[abprs]-[A-Za-z0-9-]{10,}",  # Slack tokens
            r"\bAIza[A-Za-z0-9_-]{30,}",  # Google API keys
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*",  # PEM (RFC 7468)
            r"://[^/\s:@]+:[^/\s@]+@",  # user and password in a URL
        )
    )
)


def redact(text: str) -> str:
    """``text`` with everything that looks like a secret replaced by :data:`REDACTED`. The same object if nothing is."""
    return _SECRET.sub(REDACTED, text) if _SECRET.search(text) else text
