"""Strings that look like a secret do not leave. Pure; runs on the worker, never on a request's thread."""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[redacted]"
"""Stands in the place of what was taken out."""

_START: Final = r"(?<![A-Za-z0-9])"  # a secret may follow an underscore, which to \b is a letter

_SECRET: Final = re.compile(
    "|".join(
        (
            _START + r"(?i:(?:bearer|basic)\s+[a-z0-9._~+/=-]{8,})",  # an Authorization header (RFC 6750, RFC 7617)
            _START + r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?",  # a JSON Web Token (RFC 7519)
            _START + r"xa(?:at|pt)-[A-Za-z0-9-]{8,}",  # Axiom API and personal tokens
            # Stripe, OpenAI, Anthropic and kin
            _START + r"(?:sk|pk|rk)[_-](?:live|test|proj|ant|or|svcacct|admin)[_-][A-Za-z0-9_-]{8,}",
            _START + r"sk-[A-Za-z0-9]{20,}",
            _START + r"whsec_[A-Za-z0-9+/=]{16,}",  # Stripe's and Svix's webhook secrets
            _START + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS access keys
            _START + r"(?:gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{20,}",  # GitHub and GitLab tokens
            _START + r"xox[abeprs]-[A-Za-z0-9-]{10,}",  # Slack tokens
            _START + r"AIza[A-Za-z0-9_-]{30,}",  # Google API keys
            _START + r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",  # SendGrid keys
            _START + r"(?:npm_|hf_|pypi-)[A-Za-z0-9_-]{20,}",  # registries' tokens
            r"-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----[\s\S]*",  # PEM (RFC 7468), PGP
            r"://[^/\s@?#]+@",  # user and password in a URL
        )
    )
)


def redact(text: str) -> str:
    """``text`` with everything that looks like a secret replaced by :data:`REDACTED`. The same object if nothing is."""
    return _SECRET.sub(REDACTED, text) if _SECRET.search(text) else text
