"""Whatever stands around it, a secret is found and what is none is left; and no text takes more than linear time."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_usage import redaction
from otel_usage.exporters import redacting
from otel_usage.exporters.redacting import Redactor
from otel_usage.ledger import DropCounter
from otel_usage.redaction import REDACTED, redact
from otel_usage.schema import ATTRIBUTES

FAMILIES = {
    "bearer": r"[Bb]earer [A-Za-z0-9]{4}[0-9][A-Za-z0-9._~-]{8,40}",
    "basic": r"[Bb]asic [A-Za-z0-9]{4}[0-9][A-Za-z0-9+/]{15,40}={0,2}",
    "basic, short": r"[Bb]asic YW5u(O[g-v][A-Za-z0-9+/][0-9]|[a-z][DTjz][o-r][0-9]|[a-z]{2}[AEIMQUYc]6)[a-z]{0,4}=",
    "bearer in a form": r"bearer\+[A-Za-z0-9]{4}[0-9][A-Za-z0-9]{8,40}",
    "authorization": r"[Aa]uthorization: [A-Za-z]{3,8} [A-Za-z0-9]{8,40}",
    "jwt": r"eyJ[A-Za-z0-9_-]{17,40}\.eyJ[A-Za-z0-9_-]{8,40}\.[A-Za-z0-9_-]{8,40}",
    "jwt without signature": r"eyJ[A-Za-z0-9_-]{17,40}\.eyJ[A-Za-z0-9_-]{8,40}\.?",
    "axiom": r"xa(at|pt)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "stripe": r"(sk|rk|pk)_(live|test)_[A-Za-z0-9]{16,40}",
    "openai": r"sk-(proj-|svcacct-|admin-)?[A-Za-z0-9]{20,40}",
    "openrouter": r"sk-or-v1-[0-9a-f]{64}",
    "clerk and stripe, of an organisation": r"sk_org_live_[A-Za-z0-9]{16,40}",
    "razorpay": r"rzp_(live|test)_[A-Za-z0-9]{14}",
    "anthropic": r"sk-ant-api03-[A-Za-z0-9_-]{20,40}",
    "webhook": r"whsec_[A-Za-z0-9+/]{24,40}",
    "aws": r"(AKIA|ASIA)[A-Z0-9]{16}",
    "aws session": r"(IQoJb3JpZ2lu|FwoGZXIvYXdz)[A-Za-z0-9+/]{40,80}",
    "azure": r"[A-Za-z0-9]{3}8Q~[A-Za-z0-9_~.-]{34}",
    "terraform": r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,70}",
    "atlassian": r"AT(A|C)TT3[A-Za-z0-9_-]{60,80}",
    "langsmith": r"lsv2_(pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}",
    "pinecone": r"pcsk_[A-Za-z0-9]{5,6}_[A-Za-z0-9]{40,60}",
    "posthog": r"phx_[A-Za-z0-9]{43}",
    "fly": r"(fm2_[A-Za-z0-9+/]{40,80}|fo1_[A-Za-z0-9_-]{43})",
    "tailscale": r"tskey-(auth|api|client)-k[A-Za-z0-9]{10}CNTRL-[A-Za-z0-9]{24,32}",
    "vercel blob": r"vercel_blob_rw_[A-Za-z0-9]{16}_[A-Za-z0-9]{30}",
    "figma": r"figd_[A-Za-z0-9]{40}",
    "hubspot": r"pat-(na|eu)1-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "airtable": r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}",
    "paseto": r"v[1-4]\.local\.[A-Za-z0-9_-]{90,120}",
    "jwt of several lines": r"ewog(ICAi|ICJh)[A-Za-z0-9]{12,40}\.[A-Za-z0-9_-]{8,40}\.[A-Za-z0-9_-]{8,40}",
    "discord": r"([MNO][DTjz][AEIMQUYcgk][w-z0-5]){6}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{38}",
    "github": r"gh[pousr]_[A-Za-z0-9]{36}",
    "github, fine": r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{20,40}",
    "gitlab": r"gl(pat|dt|rt|ptt)-[A-Za-z0-9_-]{20,40}",
    "slack": r"xox[bp]-[0-9]{10,12}-[A-Za-z0-9]{12,24}",
    "slack session": r"xox[cd]-[A-Za-z0-9-]{20,60}",
    "slack's webhook": r"hooks\.slack\.com/services/T[A-Z0-9]{8}/B[A-Z0-9]{8}/[A-Za-z0-9]{24}",
    "discord's webhook": r"discord\.com/api/webhooks/[0-9]{17,19}/[A-Za-z0-9_-]{60,68}",
    "telegram": r"(bot)?[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    "google": r"AIza[A-Za-z0-9_-]{35}",
    "google oauth": r"ya29\.[A-Za-z0-9_-]{20,60}",
    "google client": r"GOCSPX-[A-Za-z0-9_-]{28}",
    "sendgrid": r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "twilio": r"SK[0-9a-f]{32}",
    "digitalocean": r"do[opr]_v1_[0-9a-f]{64}",
    "databricks": r"dapi[0-9a-f]{32}(-2)?",
    "vault": r"hv[sb]\.[A-Za-z0-9_-]{24,60}",
    "hugging face": r"hf_[A-Za-z]{34}",
    "npm": r"npm_[A-Za-z0-9]{36}",
    "pypi": r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,60}",
    "shopify": r"shp(at|ca|pa|ss)_[0-9a-f]{32}",
    "age": r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}",
    "pem": r"-----BEGIN (RSA |EC |OPENSSH |ENCRYPTED |)PRIVATE KEY-----\\nMII[A-Za-z0-9+/]{40,60}",
    "pem in base64": r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{20,60}",
    "der": r"MII[A-Za-z0-9+/]{64,80}",
    "ssh": r"b3BlbnNzaC1rZXktdjE[A-Za-z0-9+/]{20,60}",
    "assigned": r"(password|passwd|pwd|api_key|apiKey|access_token|client_secret|AccountKey|sig|X-Amz-Signature)"
    r"=[A-Za-z0-9+/]{5}[0-9]{3}[A-Za-z0-9+/]{0,30}",
    "variable": r"((SECRET|AUTH|ENCRYPTION|MASTER)_KEY|DB_PASS|PHPSESSID|connect\.sid)=[A-Za-z]{5}[0-9]{6,20}",
    "in yaml": r"(secret_key|auth_token|password): [A-Za-z]{5}[0-9]{3}[A-Za-z0-9]{0,20}",
    "in json": r'"(password|token|secret|apiKey)": "[A-Za-z0-9]{5}[0-9]{3}[A-Za-z0-9]{0,20}"',
    "login": r"(https|postgres|redis|amqp)://[a-z]{1,8}:[A-Za-z0-9]{10,20}@[a-z]{1,8}",
    "login without scheme": r"[a-z]{1,8}:[A-Za-z0-9]{10,20}@(localhost|db:5432|10\.0\.0\.7:3306|tcp\(db)",
    "dsn": r"https://[0-9a-f]{32}@[a-z]{1,8}\.example\.com",
}
"""Each family of secrets as its issuer makes them."""

EMAILS = [
    "ann@example.com", "ANN@EXAMPLE.COM", "ann.o'neil+news@mail.example.co.uk", "ann_1-x@sub.example.museum",
    "jörg@müller.de", "用户@例子.公司", "ann@xn--mller-kva.de", "उपयोगकर्ता@उदाहरण.भारत", "ann@163.com", "zq@b.io",
    "svc@shop.internal", "job@worker.local", "ann@2021.ai",
]  # fmt: skip

HARMLESS = [
    "@decorator", "@app.route", "pkg@1.2.3", "pkg@v1.2.3-rc.beta", "react@18.0.0-beta.rc", "@acme/pkg@2.0.1", "user@",
    "@acme", "/v1/@{name}", "/v1/@{name}.json", "{user}@{host}.com", "user@localhost", "user@10.0.0.1", "icon@2x.png",
    "a @ b.com", "*@*.example.com", "@", "@@", "node@latest", "image@sha256:8f14e45fceea167a5a36dedd4bea2543",
    "/v1/token:refresh", "/v1/secrets:rotate", "/oauth/token", "/login?token={token}", "max_tokens=1000", "key=value",
    "basic plan", "Basic Subscription", "Basic MicroPython client", "Basic Input/Output", "cancel-token: Task",
    "basic membership", "bearer bonds", "risk-assessment-of-the-portfolio",
    "task_live_stream", "desk-proj-something", "hf_transfer_download_speed", "npm_config_registry_address",
    "k1:3f2a9c7711aa00ff3f2a9c7711aa00ff", "8f14e45fceea167a5a36dedd4bea2543", "sha256:" + "0a" * 32,
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "cus_NffrFeUfNV2Hib", "org-17", "acme",
    "httpx.ConnectTimeout", "myapp.errors.TokenExpiredError", "PasswordError", "api.example.com:8443", "2001:db8::1",
    "https://example.com:8080/docs?page=2#top", "https://example.com/@acme", "http://host:8080/x/@acme",
    "GET /v1/items/{id}", "100%", "50% off", "%41%42", "%", "[redacted]", "password=[redacted]", "secret=true",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "de-DE,de;q=0.9,en;q=0.8",
    "pk-test-customer", "sk-test-environment", "sk-admin-portal-eu", "rk-or-analytics", "Basic annual-2024",
    "Basic Monthly2024", "Basic tier-1-monthly", "Basic fjordland", "Bearer bonds-2024-q1", "token=4096",
    "MyOrganizationNamespaceLib.errors.SomeVeryLongExceptionNameForThis", "/reset/token=:token", "cookie=chocolate",
    "cookie: oatmeal and raisin", "order@2024.invoice", "season_pass=gold-2024", "pass=12", "bypass=allowed",
    "image:1.2@sha256:8f14e45fceea167a5a36dedd4bea2543", "npm:react@18.0.0", "v1.local.CustomerAccountService",
    "cache-key-8f14e45fceea167a5a36dedd4bea2543", "AT&T", "R&D &#65; \\u0041", "\uff20home", "a~b", "~/spool",
    "SKU-1234", "MIIT", "Authorization", "cookie", "2026-11-24T15:08:59.123Z", "1700000000:counter",
]  # fmt: skip

PRINTABLE = st.text(st.characters(exclude_categories=("C",)), max_size=30)
BEFORE = st.just("") | st.builds(str.__add__, PRINTABLE, st.sampled_from(list(" /_.-=\"'(&?,;:@\t«")))
AFTER = st.just("") | st.builds(str.__add__, st.sampled_from([" ", "/", '"', "'", ")", "&", ",", ";", "\n"]), PRINTABLE)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), before=BEFORE, after=AFTER)
def test_every_secret_of_a_family_is_gone_from_any_context(
    family: str, data: st.DataObject, before: str, after: str
) -> None:
    secret = data.draw(st.from_regex(re.compile(FAMILIES[family], re.ASCII), fullmatch=True))
    essence = max(re.split(r"[ :=@/\"+]", secret), key=len)
    for text in (before + secret + after, before + quote(secret, safe="") + after):
        redacted = redact(text, email_addresses=True)
        assert essence not in unquote(redacted).replace(before, "").replace(after, "")
        assert REDACTED in redacted
        assert redact(redacted, email_addresses=True) == redacted


@pytest.mark.parametrize("address", EMAILS)
@settings(max_examples=20, deadline=None)
@given(before=BEFORE, after=AFTER)
def test_an_address_is_gone_from_any_context_unless_it_is_allowed(address: str, before: str, after: str) -> None:
    name = address.partition("@")[0]
    around = (f"<{address}>", f"mailto:{address}", f"/users/{address}/orders", f"{before} {address} {after}")
    for text in (address, *around):
        for at in ("@", "%40", "%2540", "\\u0040", "&#64;", "&#x40;", "&commat;", "\uff20"):
            form = text.replace("@", at)
            redacted = redact(form)
            assert address not in redacted
            assert name not in redacted.replace(before, "").replace(after, "")
            assert REDACTED in redacted
    assert redact(f"to {address}", email_addresses=True) == f"to {address}"


@given(user=st.text("abcxyz@.-019", min_size=1, max_size=12), password=st.text(min_size=4, max_size=16))
def test_any_user_and_password_of_basic_are_gone(user: str, password: str) -> None:
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    if not re.search(r"[0-9=]", encoded):
        return  # a word, as far as anybody can tell
    for text in (f"Basic {encoded}", f"basic+{quote(encoded)}", f"authorization: Basic {encoded}"):
        assert encoded[:-2] not in redact(text)


@pytest.mark.parametrize("before", ["", "?", "&", '"', "user=a;", "login: ", "/", "export SHOP_DB_"])
def test_a_password_that_is_called_pass_is_gone(before: str) -> None:
    for word in ("pass", "PASS"):
        assert "hunter2" not in redact(f"{before}{word}=hunter2")


def test_a_key_of_mailgun_is_gone() -> None:
    key = "key-8f14e45fceea167a5a36dedd4bea2543"
    for text in (key, f"api:{key}", f"/v3/{key}/x", f"?k={key}", f"-{key}"):
        assert "8f14e45f" not in redact(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_ordinary_is_left_alone(text: str) -> None:
    assert redact(text) is text


def test_the_schemas_examples_are_left_alone() -> None:
    for attribute in ATTRIBUTES:
        if isinstance(attribute.example, str):
            assert redact(attribute.example) is attribute.example


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789abcdef-", min_size=1, max_size=64), st.sampled_from(["k1:", "", "sha256:", "/v1/items/"]))
def test_hex_digests_and_uuids_are_left_alone(digest: str, prefix: str) -> None:
    assert redact(prefix + digest) == prefix + digest


PIECES = [
    "sk_live_", "sk-", "eyJ", "xoxb-", "ghp_", "SG.", "hvs.", "dp.st.", "MNO", "12345678:AA", "AKIA", "MII",
    "bearer ", "basic+", "sk-ant-", "v4.local.", "key-", "pat", "8Q~", ".atlasv1.", "cookie=", "pass=", "&#64;",
    "://", ":", "@", "a@", "a.", ".", "-", "_", "=", "%40", "%25", "%", "a", "A", "1", " ", "/", '"',
    "-----BEGIN ",
    "PRIVATE KEY", "password=", "password", "token: ", "authorization:", "cookie", "sig=", "xn--", "é",
    "[redacted]", "\n",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@settings(max_examples=500, deadline=None)
@given(TEXTS | st.text(max_size=100), st.booleans())
def test_redacting_twice_is_redacting_once_and_nothing_raises(text: str, allowed: bool) -> None:
    redacted = redact(text, email_addresses=allowed)
    assert redact(redacted, email_addresses=allowed) == redacted


# -- steps -------------------------------------------------------------------------------------------------------------


class Steps:
    """A backtracking matcher over the parser's tree of a pattern, which counts what it tries, as `re` would try it."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self.text, self.count, self.flags = text, 0, pattern.flags
        self.found: list[tuple[int, int]] = []
        tree, position = list(_parser.parse(pattern.pattern, pattern.flags & re.ASCII)), 0
        while position <= len(text):
            end = next(self._all(tree, position, False), None)
            if end is not None:
                self.found.append((position, end))
            position = max(end or 0, position + 1)

    def _all(self, tree: list[Any], at: int, fold: bool) -> Iterator[int]:
        if not tree:
            yield at
            return
        for end in self._one(*tree[0], at, fold):
            yield from self._all(tree[1:], end, fold)

    def _one(self, op: Any, av: Any, at: int, fold: bool) -> Iterator[int]:  # noqa: C901  # as many as there are
        self.count += 1
        name = str(op)
        if name in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
            if at < len(self.text) and self._fits(name, av, self.text[at], fold):
                yield at + 1
        elif name == "BRANCH":
            for branch in av[1]:
                yield from self._all(list(branch), at, fold)
        elif name == "SUBPATTERN":
            yield from self._all(list(av[3]), at, fold or bool(av[1] & re.IGNORECASE))
        elif name == "MAX_REPEAT":
            yield from self._repeat(*av, at, fold)
        elif name in ("POSSESSIVE_REPEAT", "ATOMIC_GROUP"):
            ends = self._repeat(*av, at, fold) if name == "POSSESSIVE_REPEAT" else self._all(list(av), at, fold)
            yield from list(next(([end] for end in ends), []))
        elif name in ("ASSERT", "ASSERT_NOT"):
            start = at if av[0] > 0 else at - av[1].getwidth()[0]
            held = start >= 0 and next(self._all(list(av[1]), start, fold), None) is not None
            if held is (name == "ASSERT"):
                yield at
        elif name == "AT" and re.compile({"AT_BOUNDARY": r"\b", "AT_END": "$"}[str(av)]).match(self.text, at):
            yield at

    def _repeat(self, low: int, high: Any, item: Any, at: int, fold: bool) -> Iterator[int]:
        ends, limit = [at], int(high) if high != _constants.MAXREPEAT else len(self.text)
        if len(item) == 1 and str(item[0][0]) in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
            while len(ends) <= limit and next(self._one(*item[0], ends[-1], fold), None) is not None:
                ends.append(ends[-1] + 1)
        else:  # each turn of the groups of these patterns can end in one place only
            while len(ends) <= limit and (end := next(self._all(list(item), ends[-1], fold), None)) is not None:
                ends.append(end)
        for end in reversed(ends[low:]):
            self.count += 1
            yield end

    def _fits(self, name: str, av: Any, char: str, fold: bool) -> bool:
        if fold and not char.isascii():
            return False
        return any(self._is(name, av, c) for c in ({char.lower(), char.upper()} if fold else {char}))

    def _is(self, name: str, av: Any, char: str) -> bool:
        if name in ("LITERAL", "NOT_LITERAL"):
            return (ord(char) == av) is (name == "LITERAL")
        if name == "ANY":
            return char != "\n"
        negate = str(av[0][0]) == "NEGATE"
        return any(self._member(str(op), value, char) for op, value in av[negate:]) is not negate

    def _member(self, op: str, value: Any, char: str) -> bool:
        if op == "RANGE":
            return bool(value[0] <= ord(char) <= value[1])
        if op == "LITERAL":
            return ord(char) == int(value)
        classes = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
        _, _, kind = str(value).partition("CATEGORY_")
        found = re.match(classes[kind.removeprefix("NOT_")], char, self.flags & re.ASCII) is not None
        return found is not kind.startswith("NOT_")


PATTERNS = ["_SECRET", "_WITHIN", "_PRIVATE_KEY", "_LOGIN", "_ASSIGNED", "_EMAIL"]


def steps(name: str, text: str) -> int:
    pattern: re.Pattern[str] = getattr(redaction, name)
    counted = Steps(pattern, text)
    assert counted.found == [match.span() for match in pattern.finditer(text)]  # it matches as `re` does
    return counted.count


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(unit=st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join))
def test_a_text_of_twice_the_length_takes_about_twice_the_steps(name: str, unit: str) -> None:
    half = steps(name, (unit * 512)[:512])
    assert steps(name, (unit * 1024)[:1024]) <= 2.5 * half + 64


def test_the_counter_of_steps_tells_a_quadratic_pattern() -> None:
    slow = re.compile(r"[a-z]+@")
    assert Steps(slow, "a" * 512).count > 3.5 * Steps(slow, "a" * 256).count


@settings(max_examples=60, deadline=None)
@given(unit=st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join), size=st.integers(256, 1024))
def test_no_text_is_gone_over_more_than_a_few_times(unit: str, size: int) -> None:
    text = (unit * size)[:size]
    redacted = redact(text)
    assert redact(redacted) == redacted


# -- what is said and counted ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redacting, "_told", set())


def test_the_first_time_that_a_key_is_redacted_is_said_and_never_the_value(caplog: pytest.LogCaptureFixture) -> None:
    drops = DropCounter()
    for name in ("ann", "bob"):
        clean = Redactor(drops).attributes({"usage.customer.id": f"{name}@example.com", "usage.plan": "pro"})
        assert clean == {"usage.customer.id": REDACTED, "usage.plan": "pro"}
    Redactor(drops).attributes({"usage.plan": "ann@example.com"})
    assert drops.counts() == {"redacted:usage.customer.id": 2, "redacted:usage.plan": 1}
    said = [record.getMessage() for record in caplog.records]
    assert ["usage.customer.id" in said[0], "usage.plan" in said[1], len(said)] == [True, True, 2]
    assert "USAGE_EMAIL_ADDRESSES=1" in said[0]
    assert "example.com" not in caplog.text


def test_where_addresses_are_allowed_nothing_advises_to_allow_them(caplog: pytest.LogCaptureFixture) -> None:
    redactor = Redactor(email_addresses=True)
    assert redactor.attributes({"usage.plan": "ann@example.com"}) == {"usage.plan": "ann@example.com"}
    assert redactor.attributes({"usage.plan": "sk_" + "live_0123456789"}) == {"usage.plan": REDACTED}
    assert "usage.plan looked like a secret and became" in caplog.text
    assert "USAGE_EMAIL_ADDRESSES" not in caplog.text


def test_a_stream_of_keys_fills_neither_the_log_nor_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    Redactor().attributes({f"key-{n}": "ann@example.com" for n in range(1000)})
    assert len(caplog.records) == len(redacting._told) == redacting._TOLD_LIMIT


@pytest.mark.parametrize("name", ["ann@example.com", "sk_" + "live_0123456789abcdef", "x" * 50 + " ann@example.com"])
def test_a_name_that_is_counted_loses_what_must_not_be_shown(name: str) -> None:
    drops = DropCounter()
    for _ in range(3):
        drops.add(name)
        drops.add(f"redacted:{name}")
    assert "example" not in str(drops.counts())
    assert "sk_" not in str(drops.counts())
    assert sorted(drops.counts().values()) == [3, 3]


UNKNOWN = [
    "customer Ann Smith +49 170 1234567", "acme-gmbh", "Ann", "x" * 65, "9lives", "", "a:b", "customer:acme", "key ",
    "schlüssel", "a\nb", "_private", "sk_" + "live_0123456789abcdef",
]  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_may_be_data_is_not_counted_by_itself(name: str) -> None:
    drops = DropCounter()
    for _ in range(2):
        drops.add(name)
        drops.add(f"redacted:{name}")
    assert drops.counts() == {"_unknown": 2, "redacted:_unknown": 2}


@pytest.mark.parametrize(
    "name", ["a", "http.route", "usage.customer.id", "app.secret_2", "redacted:http.route", "distinct:http.route",
             "baggage:no_room", "identify:other_customer", "event:usage.meter", "span:not_usage", "x" * 64],
)  # fmt: skip
def test_a_key_is_counted_by_itself(name: str) -> None:
    drops = DropCounter()
    drops.add(name)
    drops.add(name, 2)
    drops.add(7)
    assert drops.counts() == {name: 3, "_not_a_string": 1}


def test_every_key_of_the_schema_is_counted_by_itself() -> None:
    drops = DropCounter()
    for attribute in ATTRIBUTES:
        drops.add(attribute.key)
    assert drops.counts() == dict.fromkeys((attribute.key for attribute in ATTRIBUTES), 1)


def test_an_error_whose_class_is_named_by_a_secret_does_not_log_it(caplog: pytest.LogCaptureFixture) -> None:
    from otel_usage.guard import report

    secret = "sk_" + "live_0123456789abcdef"
    with caplog.at_level(logging.DEBUG):
        report("a site", type(secret, (Exception,), {})(secret))
        report("another", TypeError(f"f() got an unexpected keyword argument '{secret}'"))
    assert len(caplog.records) == 2
    assert secret not in caplog.text
