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


def _each(marks: str, rest: str) -> str:
    """Any of ``marks`` and then ``rest``. Alternatives that begin with a letter, and not with a group, are passed over
    by :mod:`re` at a glance where the text has another letter.
    """
    return "|".join(mark + rest for mark in marks.split())


ISSUED: Final = (
    r"eyJ[\w-]{14}[\w.=-]*+",  # a JSON object in base64url: a JSON Web Token (RFC 7519), with or without its signature
    r"ew(?:ogI|oJI|0KI)[\w-]{14}[\w.=-]*+",  # the same, where its header was written over several lines
    r"v[1-4]\.local\.[\w-]{64,}+(?:\.[\w-]*+)?",  # PASETO; a `public` one holds `eyJ`
    r"xa(?:at|pt)-[A-Za-z0-9-]{8,}+",  # Axiom API and personal tokens
    r"[spr]k_(?:org_)?(?:live|test|proj|ant|or|svcacct|admin)[_-][\w-]{8,}+",  # Stripe, Clerk, Paystack and kin
    # OpenAI, Anthropic, OpenRouter, Langfuse. A customer may be named like that: `sk-admin-portal-eu`.
    r"[spr]k-(?:live|test|proj|ant|or|svcacct|admin|lf)-(?:(?=[A-Za-z_-]{0,64}\d)[\w-]{16,}+|[A-Za-z0-9]{16,}+)",
    r"sk-[A-Za-z0-9]{20,}+",  # OpenAI's older keys, and those of who followed it
    r"whsec_[A-Za-z0-9+/=]{16,}+",  # Stripe's and Svix's webhook secrets
    r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS access keys
    r"ABSK[A-Za-z0-9+/=]{40,}+|IQoJb3JpZ2lu[A-Za-z0-9+/=]{20,}+|FwoGZXIvYXdz[A-Za-z0-9+/=]{20,}+",  # AWS
    r"gh[pousr]_[A-Za-z0-9_]{20,}+|github_pat_\w{20,}+",  # GitHub
    r"gl(?:pat|dt|ptt|rt|cbt|imt|agent|oas|ft|soat|ffct|wt)-[\w-]{20,}+",  # GitLab
    r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}+|xapp-\d-[A-Za-z0-9-]{10,}+",  # Slack tokens
    r"xox[cd]-[\w%+/=.-]{10,}+",  # Slack sessions
    r"hooks\.slack\.com/(?:services|workflows|triggers)/[\w/+-]{8,}+",
    r"discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/\d{5,25}/[\w-]{8,}+",
    # Discord bot tokens: the first part is a number of 17 digits or more, in base64.
    r"[MNO][DTjz][AEIMQUYcgk](?:[w-z0-5][MNO][DTjz][AEIMQUYcgk]){5}[\w-]{0,5}\.[\w-]{6}\.[\w-]{27,}+",
    _each(r"bot\d \d", r"\d{7,9}:AA[\w-]{30,}+"),  # Telegram bot tokens, which stand in the path after `bot`
    r"AIza[\w-]{30,}+|ya29\.[\w.-]{20,}+|GOCSPX-[\w-]{20,}+",  # Google API keys, OAuth tokens and client secrets
    r"SG\.[\w-]{16,32}\.[\w-]{16,}+",  # SendGrid
    r"SK[0-9a-f]{32}(?![A-Za-z0-9])",  # Twilio API keys
    _each(
        "npm_ hf_ gsk_ r8_ nfp_ sgp_ figd_ pnu_ lin_api_ ntn_ sbp_ sb_secret_ rubygems_ secret_", r"[A-Za-z0-9]{20,}+"
    ),
    _each("lsv2_ pcsk_ phx_ vercel_blob_rw_", r"\w{20,}+"),  # LangSmith, Pinecone, PostHog, Vercel
    _each("fm2_ fo1_", r"[\w+/=-]{20,}+"),  # Fly
    r"tskey-[a-z]{2,10}-[A-Za-z0-9-]{10,}+|rzp_(?:live|test)_[A-Za-z0-9]{14,}+",  # Tailscale, Razorpay
    r"pat-[a-z]{2}\d-[0-9a-fA-F]{8}-[0-9a-fA-F-]{20,}+|pat[A-Za-z0-9]{14}\.[0-9a-f]{64}",  # HubSpot, Airtable
    r"key-(?<![A-Za-z0-9][_-]key-)[0-9a-f]{32}(?![A-Za-z0-9])",  # Mailgun; a `cache-key-…` is none
    r"pypi-AgE[\w-]{16,}+",  # PyPI: every token begins with the same macaroon header
    r"do[opr]_v1_[0-9a-f]{32,}+|dapi[0-9a-f]{32}[0-9a-f-]*+|pul-[0-9a-f]{40}",  # DigitalOcean, Databricks, Pulumi
    r"hv[sbr]\.[\w-]{20,}+|dp\.[a-z]{2,5}\.[\w-]{40,}+|dckr_[po]at_[\w-]{20,}+",  # HashiCorp Vault, Doppler, Docker
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32,}+|sq0[a-z]{3}-[\w-]{20,}+|xkeysib-[\w-]{40,}+",  # Shopify, Square, Brevo
    r"sntry[su]_[\w=+/-]{20,}+|gl(?:sa|c)_[\w=+/-]{30,}+|pylf_v\d_[\w-]{20,}+",  # Sentry, Grafana, Logfire
    _each("PMAK- NRAK- NRJS- NRII-", r"[A-Za-z0-9-]{20,}+"),  # Postman, New Relic
    r"AT[AC]TT3[\w=-]{40,}+|pscale_[a-z]{2,8}_[\w.-]{20,}+",  # Atlassian, PlanetScale
    _each("xai- pplx- tvly- nvapi-", r"[A-Za-z0-9_]{20,}+"),  # xAI, Perplexity, Tavily, NVIDIA
    r"AGE-SECRET-KEY-1[A-Z0-9]{20,}+",  # age
    r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{8,}+|b3BlbnNzaC1rZXkt[A-Za-z0-9+/=]*+",  # PEM and OpenSSH keys, in base64
    r"MII[A-Za-z0-9+/]{60}[A-Za-z0-9+/=\s]*+",  # a key or certificate of 256 bytes or more in DER, in base64
)
"""What an issuer has marked as its own."""

# An Authorization header, whose space a form or a query writes as `+`. A word that comes after `basic` or `bearer` is
# none, and has no digit and not more than one capital within: `Basic MicroPython`.
_RANDOM: Final = r"(?=[A-Za-z._~/+-]{0,64}(?:[0-9=]|[a-z][A-Z][A-Za-z]{0,32}[a-z][A-Z]))"
# Base64 in which a colon is encoded, in the first, second or third byte of a group of three.
_WITH_COLON: Final = (
    r"(?:[A-Za-z0-9+/]{4}){0,40}"
    r"(?:O[g-v]|[A-Za-z0-9+/][DTjz][o-r]|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]6)"
)
# Words and numbers, as in `Bearer bonds-2024-q1`.
_SLUG: Final = r"[A-Za-z]{2,16}(?:-(?:[A-Za-z]{1,16}|\d{1,4}|[A-Za-z]\d)){1,8}(?![\w.~+/=-])"
_CREDENTIALS: Final = (
    # User and password (RFC 7617). Of 20 characters and more it need not be that; `Basic Monthly2024` is a plan.
    rf"[Bb](?i:asic)[ +]{{1,4}}{_RANDOM}(?=[\w.~+/=-]{{8}})(?:{_WITH_COLON}|[A-Za-z0-9+/]{{20}})[\w.~+/=-]*+"
    rf"|[Bb](?i:earer)[ +]{{1,4}}(?:(?!{_SLUG}){_RANDOM}[\w.~+/=-]{{8,}}+|[\w.~+/=-]{{24,}}+)"  # RFC 6750
)

_SECRET: Final = re.compile(
    # A secret may follow an underscore, which to \b is a letter. The first letters come before the patterns because
    # most words of most texts end there.
    r"(?<![A-Za-z0-9])(?=[0-9ABFGILMNOPSbdefghklnprstvwxy])(?:" + "|".join((*ISSUED, _CREDENTIALS)) + ")",
    re.ASCII,
)

_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN[ +][A-Z +]{0,40}PRIVATE[ +]KEY[\s\S]*|PuTTY-User-Key-File-[\s\S]*"  # PEM (RFC 7468), PGP, PuTTY
)

_WITHIN: Final = re.compile(  # secrets whose mark stands within them
    r"[\w~.]{3}\dQ~[\w~.-]{31,}+"  # Azure AD client secrets
    r"|[A-Za-z0-9]{14}\.atlasv1\.[\w-]{40,}+",  # Terraform
    re.ASCII,
)

_LOGIN: Final = re.compile(  # user and password in a URL (RFC 3986, 3.2.1)
    # Written as it should be, and with a password that holds what should have been encoded; no port is a password.
    r"://(?:[^/\s?#]*@|[^/\s:@?#]{1,64}:(?!\d{1,5}(?:[/?#]|$))[^\s@]{1,128}@(?:[^\s@/]{1,128}@)?)"
    # Without a scheme it takes a host that can be nothing else: `image:tag@sha256:…` is none.
    r"|(?<![\w.+-])[\w.+-]{1,64}:[^\s@/:]{1,128}@(?=localhost(?![\w.-])|[\w.-]{1,253}:\d{2,5}(?!\w)|(?:tcp|unix)\()"
)

# What names a secret and is none (`{token}`, `:token`), or a fact about one.
_NOTHING: Final = r"(?!\[redacted\]|[{<]|\.{3}|\$\{|\*{3}|(?:true|false|null|none)\b|:[a-z_]{1,32}(?:[\s\"'&;,<>/]|$))"
_NUMBER: Final = r"(?!\d{1,5}(?:[\s\"'&;,<>]|$))"  # a count, as in `token=4096`
_VALUE: Final = r"[^\s\"'&;,<>]"

_ASSIGNED: Final = re.compile(
    # The whole of such a header is a secret. A cookie has a name and a value; `cookie=chocolate` has not.
    r"(?:(?i:authorization)[\"']?\s?[:=]|(?i:cookie)[\"']?\s?[:=](?=[^\r\n]{0,64}[=\d]))\s{0,2}[\"']?" + _NOTHING
    + r"[^\"'\r\n]{4,}+"
    # Else up to where a query, a connection string or a line of JSON would go on. A colon alone assigns nothing: it
    # is a verb in `/v1/token:refresh`.
    r"|(?i:passw(?:or)?d|passphrase|pwd|client[_-]?secret|"
    r"(?:api|access|account|private|signing|secret|auth|encryption|master)[_-]?key(?:[_-]?id)?)"
    r"[\"']?\s?(?:=|:[\s\"'])\s?[\"']?" + _NOTHING + _VALUE + r"++"
    # These are also plain words: what stands after a colon and a space has a digit. `sig` and `Signature` are named by
    # the semantic conventions of `url.query`, as is `AWSAccessKeyId`.
    r"|(?i:secret|token|credentials?|sess(?:ion)?[_-]?id|connect\.sid|signature|\bsig"
    r"|(?<![a-z0-9])(?:db|database|mysql|postgres|pg|redis|smtp|mail|ftp|user|admin|root)_pass|(?<![a-z0-9_-])pass)"
    r"(?:[\"']?\s?=\s?[\"']?|[\"']\s?:\s?[\"']|:\s(?=[^\s\"']{0,64}\d))" + _NOTHING + _NUMBER + _VALUE + r"{4,}+"
)  # fmt: skip

# The characters of an address's local part (RFC 6531, which adds all of Unicode), less those that part it from what
# stands around it; of a label of its domain; and of the beginning of the last label.
_LOCAL: Final = r"[^\s@<>()\[\]{}\",;:/\\|?=&#%]"
_LABEL: Final = r"[^\x00-,./:-@\[-^`{-\x7f\s]"
_LETTER: Final = r"[^\x00-@\[-`{-\x7f\s]"

_EMAIL: Final = re.compile(
    rf"(?<!{_LOCAL})(?={_LOCAL}*\w){_LOCAL}++@"
    # A version, as in `pkg@1.2.3-rc.beta`; an image, as in `icon@2x.png`; a year, as in `order@2024.invoice`.
    r"(?!v?\d+\.\d|\d+x\.|20\d\d\.[a-z]{4})"
    rf"(?:{_LABEL}++\.)+{_LETTER}{{2}}{_LABEL}*+"
)

_AT: Final = re.compile(r"\\u0040|\\x40|&#0{0,4}64;|&#[xX]0{0,4}40;|&commat;|[\uff20\ufe6b]")
"""An @ as JSON, a program or HTML may write it, or in another width (Unicode, NFKC)."""


def redact(text: str, *, email_addresses: bool = False) -> str:
    """``text`` with everything that looks like a secret replaced by :data:`REDACTED`. The same object if nothing is.

    E-mail addresses are replaced too, unless ``email_addresses`` allows them. A text in which something was found
    percent-encoded, or with its @ in another form, is returned decoded. Redacting twice is redacting once.
    """
    # Ids, and most names: nothing is encoded in them, and no pattern but the first fits (0.3 µs, and not 0.8).
    if text.isalnum() and text.isascii() and not _SECRET.search(text):
        return text
    for _ in range(_PASSES):  # what was taken out may have stood between the parts of another secret
        clean = _first_cleaned(text, email_addresses)
        if clean is None:
            return text
        text = clean
    return REDACTED


def _first_cleaned(text: str, email_addresses: bool) -> str | None:
    """The first of the forms of ``text`` in which something was found, without it. None: nothing was."""
    encoded = "%" in text or "&" in text or "\\" in text or not text.isascii()
    for form in forms(text) if encoded else (text,):
        clean = _cleaned(form, email_addresses)
        if clean != form:
            return clean
    return None


def forms(text: str) -> list[str]:
    """All that ``text`` may stand for: itself, and before it as what it is read by who decodes it.

    That comes first, because a secret may go on after what is encoded in it.
    """
    found = [text]
    while "%" in found[0] and len(found) <= _DECODINGS:
        found.insert(0, unquote(found[0]))
    if _AT.search(found[0]):
        found.insert(0, _AT.sub("@", found[0]))
    return found


def _cleaned(text: str, email_addresses: bool) -> str:
    # A pattern is tried where the mark is that it cannot be without: looking for a mark costs next to nothing, and for
    # a single character least. To search costs less than to replace, and most texts hold nothing.
    if _SECRET.search(text):
        text = _SECRET.sub(REDACTED, text)
    if "~" in text or ".atlasv1." in text:
        text = _WITHIN.sub(REDACTED, text)
    if "-" in text and ("-----BEGIN" in text or "PuTTY-" in text):
        text = _PRIVATE_KEY.sub(REDACTED, text)
    if "=" in text or (":" in text and (": " in text or '":' in text or "':" in text)):
        text = _ASSIGNED.sub(REDACTED, text)
    if "@" in text:
        text = _LOGIN.sub(REDACTED, text)
        if not email_addresses:
            text = _EMAIL.sub(REDACTED, text)
    return text
