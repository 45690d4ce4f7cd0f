"""Strings that look like a secret or an e-mail address do not leave. Pure; a request's thread never scans its values.

What is looked for has a mark of its own: a prefix that its issuer chose so that scanners find it, or the name it is
assigned to. Long random strings without one are left alone, because ids, hashes and digests are such strings. The
prefixes are those that their issuers document and that gitleaks and detect-secrets look for.

Every pattern takes time linear in the length of the text: a repeat without a bound is either the last thing of its
pattern, so that what it has read is done with, or begins where nothing of its kind stands before it.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

REDACTED: Final = "[redacted]"
"""Stands in the place of what was taken out."""

_DECODINGS: Final = 2
"""How often a text is percent-decoded in search of secrets: a URL within a URL's query is encoded twice."""

_PASSES: Final = 8
"""How often a text is gone over. One in which there is still something then is made to be so, and is replaced whole."""

_ISSUED: Final = (
    r"eyJ[\w-]{14}[\w.=-]*+",  # a JSON object in base64url: a JSON Web Token (RFC 7519), with or without its signature
    r"xa(?:at|pt)-[A-Za-z0-9-]{8,}+",  # Axiom API and personal tokens
    r"[spr]k[_-](?:live|test|proj|ant|or|svcacct|admin)[_-][\w-]{8,}+",  # Stripe, OpenAI, Anthropic and kin
    r"sk-[A-Za-z0-9]{20,}+",  # OpenAI's older keys, and those of who followed it
    r"whsec_[A-Za-z0-9+/=]{16,}+",  # Stripe's and Svix's webhook secrets
    r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS access keys
    r"ABSK[A-Za-z0-9+/=]{40,}+",  # AWS Bedrock keys
    r"gh[pousr]_[A-Za-z0-9_]{20,}+|github_pat_\w{20,}+",  # GitHub
    r"gl(?:pat|dt|ptt|rt|cbt|imt|agent|oas|ft|soat|ffct|wt)-[\w-]{20,}+",  # GitLab
    r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}+|xapp-\d-[A-Za-z0-9-]{10,}+",  # Slack tokens
    r"hooks\.slack\.com/(?:services|workflows|triggers)/[\w/+-]{8,}+",
    r"discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/\d{5,25}/[\w-]{8,}+",
    r"[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}+",  # Discord bot tokens
    r"(?:bot)?\d{8,10}:AA[\w-]{30,}+",  # Telegram bot tokens, which stand in the path after `bot`
    r"AIza[\w-]{30,}+|ya29\.[\w.-]{20,}+|GOCSPX-[\w-]{20,}+",  # Google API keys, OAuth tokens and client secrets
    r"SG\.[\w-]{16,32}\.[\w-]{16,}+",  # SendGrid
    r"SK[0-9a-f]{32}(?![A-Za-z0-9])",  # Twilio API keys
    r"(?:npm|hf|gsk|r8|nfp|sgp|figd|pnu|lin_api|ntn|sbp|sb_secret|rubygems|secret)_[A-Za-z0-9]{20,}+",
    r"pypi-AgE[\w-]{16,}+",  # PyPI: every token begins with the same macaroon header
    r"do[opr]_v1_[0-9a-f]{32,}+|dapi[0-9a-f]{32}[0-9a-f-]*+|pul-[0-9a-f]{40}",  # DigitalOcean, Databricks, Pulumi
    r"hv[sbr]\.[\w-]{20,}+|dp\.[a-z]{2,5}\.[\w-]{40,}+|dckr_[po]at_[\w-]{20,}+",  # HashiCorp Vault, Doppler, Docker
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32,}+|sq0[a-z]{3}-[\w-]{20,}+|xkeysib-[\w-]{40,}+",  # Shopify, Square, Brevo
    r"sntry[su]_[\w=+/-]{20,}+|gl(?:sa|c)_[\w=+/-]{30,}+|pylf_v\d_[\w-]{20,}+",  # Sentry, Grafana, Logfire
    r"(?:PMAK|NRAK|NRJS|NRII)-[A-Za-z0-9-]{20,}+|ATATT3[\w=-]{40,}+|pscale_[a-z]{2,8}_[\w.-]{20,}+",  # Postman, …
    r"(?:xai|pplx|tvly|nvapi)-[A-Za-z0-9_]{20,}+",  # xAI, Perplexity, Tavily, NVIDIA
    r"AGE-SECRET-KEY-1[A-Z0-9]{20,}+",  # age
    r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{8,}+|b3BlbnNzaC1rZXkt[A-Za-z0-9+/=]*+",  # PEM and OpenSSH keys, in base64
    r"MII[A-Za-z0-9+/]{60}[A-Za-z0-9+/=\s]*+",  # a key or certificate of 256 bytes or more in DER, in base64
)
"""What an issuer has marked as its own."""

# An Authorization header (RFC 6750, RFC 7617), whose space a form or a query writes as `+`. A word that comes after
# `basic` is none, and has no digit and not more than one capital within: `Basic MicroPython`.
_CREDENTIALS: Final = (
    r"(?i:bearer|basic)[ +]{1,4}(?=[A-Za-z._~/+-]{0,64}(?:[0-9=]|[a-z][A-Z][A-Za-z]{0,32}[a-z][A-Z]))[\w.~+/=-]{8,}+"
    r"|(?i:bearer)[ +]{1,4}[\w.~+/=-]{24,}+"
)

_SECRET: Final = re.compile(
    # A secret may follow an underscore, which to \b is a letter. The first letters come before the patterns because
    # most words of most texts end there.
    r"(?<![A-Za-z0-9])(?=[0-9ABGLMNOPSbdeghlnprstwxy])(?:" + "|".join((*_ISSUED, _CREDENTIALS)) + ")",
    re.ASCII,
)

_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN[ +][A-Z +]{0,40}PRIVATE[ +]KEY[\s\S]*|PuTTY-User-Key-File-[\s\S]*"  # PEM (RFC 7468), PGP, PuTTY
)

_LOGIN: Final = re.compile(  # user and password in a URL (RFC 3986, 3.2.1)
    # Written as it should be, and with a password that holds what should have been encoded; no port is a password.
    r"://(?:[^/\s?#]*@|[^/\s:@?#]{1,64}:(?!\d{1,5}(?:[/?#]|$))[^\s@]{1,128}@(?:[^\s@/]{1,128}@)?)"
)

# A placeholder, or a fact about a secret.
_NOTHING: Final = r"(?!\[redacted\]|[{<]|\.{3}|\$\{|\*{3}|(?:true|false|null|none)\b)"
_VALUE: Final = r"[^\s\"'&;,<>]"

_ASSIGNED: Final = re.compile(
    # The whole of such a header is a secret.
    r"(?i:authorization|cookie)[\"']?\s?[:=]\s{0,2}[\"']?" + _NOTHING + r"[^\"'\r\n]{4,}+"
    # Else up to where a query, a connection string or a line of JSON would go on. A colon alone assigns nothing: it
    # is a verb in `/v1/token:refresh`.
    r"|(?i:passw(?:or)?d|passphrase|pwd|client[_-]?secret|(?:api|access|account|private|signing)[_-]?key(?:[_-]?id)?)"
    r"[\"']?\s?(?:=|:[\s\"'])\s?[\"']?" + _NOTHING + _VALUE + r"++"
    # These are also plain words: what stands after a colon and a space has a digit. `sig` and `Signature` are named by
    # the semantic conventions of `url.query`, as is `AWSAccessKeyId`.
    r"|(?i:secret|token|credentials?|session[_-]?id|signature|\bsig)"
    r"(?:[\"']?\s?=\s?[\"']?|[\"']\s?:\s?[\"']|:\s(?=[^\s\"']{0,64}\d))" + _NOTHING + _VALUE + r"{4,}+"
)  # fmt: skip

# The characters of an address's local part (RFC 6531, which adds all of Unicode), less those that part it from what
# stands around it; of a label of its domain; and of the beginning of the last label.
_LOCAL: Final = r"[^\s@<>()\[\]{}\",;:/\\|?=&#%]"
_LABEL: Final = r"[^\x00-,./:-@\[-^`{-\x7f\s]"
_LETTER: Final = r"[^\x00-@\[-`{-\x7f\s]"

_EMAIL: Final = re.compile(
    rf"(?<!{_LOCAL})(?={_LOCAL}*\w){_LOCAL}++@"
    r"(?!v?\d+\.\d|\d+x\.)"  # a version, as in `pkg@1.2.3-rc.beta`, or an image, as in `icon@2x.png`
    rf"(?:{_LABEL}++\.)+{_LETTER}{{2}}{_LABEL}*+"
)


def redact(text: str, *, email_addresses: bool = False) -> str:
    """``text`` with everything that looks like a secret replaced by :data:`REDACTED`. The same object if nothing is.

    E-mail addresses are replaced too, unless ``email_addresses`` allows them. A text in which something was found
    percent-encoded is returned decoded. Redacting twice is redacting once.
    """
    for _ in range(_PASSES):  # what was taken out may have stood between the parts of another secret
        clean = _first_cleaned(text, email_addresses)
        if clean is None:
            return text
        text = clean
    return REDACTED


def _first_cleaned(text: str, email_addresses: bool) -> str | None:
    """The first of the forms of ``text`` in which something was found, without it. None: nothing was."""
    for form in _forms(text):
        clean = _cleaned(form, email_addresses)
        if clean != form:
            return clean
    return None


def _forms(text: str) -> list[str]:
    """``text``, and before it as what it is read by who decodes it: a secret may go on after what is encoded in it."""
    forms = [text]
    while "%" in forms[0] and len(forms) <= _DECODINGS:
        forms.insert(0, unquote(forms[0]))
    return forms


def _cleaned(text: str, email_addresses: bool) -> str:
    # A pattern is tried where the mark is that it cannot be without: looking for a mark costs next to nothing.
    text = _SECRET.sub(REDACTED, text)
    if "-----BEGIN" in text or "PuTTY-" in text:
        text = _PRIVATE_KEY.sub(REDACTED, text)
    if "=" in text or ": " in text or '":' in text or "':" in text:
        text = _ASSIGNED.sub(REDACTED, text)
    if "@" in text:
        text = _LOGIN.sub(REDACTED, text)
        if not email_addresses:
            text = _EMAIL.sub(REDACTED, text)
    return text
