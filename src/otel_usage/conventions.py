"""What the attributes of others' spans say, by OpenTelemetry's conventions and their former names. Pure.

Only the keys that stand here are read. What a statement, a prompt, an answer or a URL is in has none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .forms import OTHER
from .request_facts import host_of, reason_of
from .schema import BY_KEY

Attributes = Mapping[str, Any]

# -- model calls -------------------------------------------------------------------------------------------------------

_OPERATION: Final = "gen_ai.operation.name"
_PROVIDER: Final = ("gen_ai.provider.name", "gen_ai.system")
_MODEL: Final = ("gen_ai.request.model", "gen_ai.response.model")
_INPUT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT: Final = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_MAX: Final = ("gen_ai.request.max_tokens",)

_CALLS: Final = frozenset({"chat", "completion", "embeddings", "generate_content", "text_completion"})
"""The operations that a provider runs a model for, and bills. An agent, a chain or a tool calls models, or none."""


def of_gen_ai(attributes: Attributes) -> bool:
    """Whether it is a span of the conventions for generative AI, of whatever kind."""
    return any(key in attributes for key in (_OPERATION, *_PROVIDER, *_MODEL))


def is_model_call(attributes: Attributes) -> bool:
    """Whether it is one call of a model, and no work around such calls. Older conventions have no operation."""
    operation = attributes.get(_OPERATION)
    return operation in _CALLS if isinstance(operation, str) else _text(attributes, _MODEL) is not None


def model_of(attributes: Attributes) -> str | None:
    """The model that was asked for, else the one that answered."""
    return _text(attributes, _MODEL)


def model_provider_of(attributes: Attributes) -> str | None:
    """Who runs the model."""
    return _text(attributes, _PROVIDER)


def model_usage(attributes: Attributes) -> dict[str, Any]:
    """Tokens and their limit, by the schema's keys. None: not told."""
    return {
        "gen_ai.usage.input_tokens": _number(attributes, _INPUT),
        "gen_ai.usage.output_tokens": _number(attributes, _OUTPUT),
        "gen_ai.request.max_tokens": _number(attributes, _MAX),
    }


def reason_of_call(attributes: Attributes, error: str | None) -> str:
    """Why a model call ended as it did: by its status, else by its error's class. ``ok`` only for a success.

    ``error``: its ``error.type``. None: it has not failed, as far as its instrumentation knows.
    """
    status = http_status(attributes)
    if status is None and error is not None and re.fullmatch(r"[1-5][0-9]{2}", error):
        status = int(error)
    if status is not None and (error is None or status >= 400):
        return reason_of(status=status, method="POST", has_route=True, is_preflight=False)
    return "ok" if error is None else _reason_of_error(error)


def _reason_of_error(error: str) -> str:
    """``openai.RateLimitError``, ``rate_limit_error`` and ``<class 'openai.RateLimitError'>`` are one."""
    words = re.findall(r"[A-Za-z_]\w*", error)
    name = words[-1].replace("_", "").lower() if words else ""
    name = name.removesuffix("error").removesuffix("exception")
    return next((reason for ending, reason in _REASON_OF_ERROR if name.endswith(ending)), "server_error")


_REASON_OF_ERROR: Final = tuple(
    (ending, reason)
    for reason, endings in {
        "rate_limit_429": "ratelimit toomanyrequests resourceexhausted throttling throttled",
        "auth_401": "authentication unauthenticated unauthorized",
        "auth_403": "permission permissiondenied forbidden",
        "not_found": "notfound",
        "malformed_request": "badrequest invalidrequest invalidargument unprocessableentity",
        "payload_too_large": "toolarge",
        "client_error": "conflict",
        "client_aborted": "cancelled canceled generatorexit",
    }.items()
    for ending in endings.split()
)
"""How the names of errors end, without ``Error``, in the libraries of providers and in what their APIs say. What is not
here (a lost connection, a time-out, an overload) is not the caller's fault."""

# -- calls of other services -------------------------------------------------------------------------------------------

_HOST: Final = ("server.address", "net.peer.name")
_STATUS: Final = ("http.response.status_code", "http.status_code")
_METHOD: Final = ("http.request.method", "http.method")


class Called(NamedTuple):
    """Who was called, and what was asked of them. None: not told."""

    system: str | None
    """The kind of database or queue, or the remote service."""
    operation: str | None
    host: str | None


def is_hooked(attributes: Attributes) -> bool:
    """Whether it is a call that the hooks of this package see: an HTTP request, or what is sent as some."""
    return _text(attributes, _METHOD) is not None or _text(attributes, _RPC_SYSTEM) in _HOOKED


_RPC_SYSTEM: Final = ("rpc.system.name", "rpc.system")
_HOOKED: Final = ("grpc", "aws-api")


def http_status(attributes: Attributes) -> int | None:
    """The status of the answer."""
    return _number(attributes, _STATUS)


def called(name: str, attributes: Attributes) -> Called:
    """What a client's span says. Of its name, nothing but a verb is taken, which is all that some say."""
    system = _text(attributes, ("db.system.name", "db.system", "messaging.system"))
    operation = _text(
        attributes, ("db.operation.name", "db.operation", "messaging.operation.name", "messaging.operation")
    )
    if operation is None and system is not None:
        verb = name.split(maxsplit=1)[0].upper() if name.strip() else ""
        operation = verb if verb in _VERBS else None
    if system is None:
        service, method = _remote(attributes)
        system = service or _text(attributes, _RPC_SYSTEM)
        operation = method
    host = host_of(_text(attributes, _HOST))
    return Called(system, operation if operation is None or _WORD.fullmatch(operation) else None, host)


def _remote(attributes: Attributes) -> tuple[str | None, str | None]:
    """Service and method of a remote procedure call. Newer conventions have both in one: ``shop.Stock/Get``."""
    service, method = _text(attributes, ("rpc.service",)), _text(attributes, ("rpc.method",))
    if service is None and method is not None and "/" in method:
        service, _, method = method.rpartition("/")
    return service, method


_WORD: Final = re.compile(r"[A-Za-z_][\w.-]{0,63}(?: [A-Za-z_]{1,32}){0,3}")
"""``SELECT``, ``publish``, ``GetObject``, ``BATCH INSERT``. A statement has marks, and most have more words."""

_SQL: Final = """
    ALTER ANALYZE BEGIN CALL COMMIT COPY CREATE DELETE DROP EXECUTE EXPLAIN GRANT INSERT LOCK MERGE PRAGMA PREPARE
    RELEASE REPLACE REVOKE ROLLBACK SAVEPOINT SELECT SHOW START TRUNCATE UPDATE UPSERT USE VACUUM VALUES WITH
"""
_REDIS: Final = """
    APPEND AUTH BLMOVE BLPOP BRPOP BZPOPMIN DECR DECRBY DEL EVAL EVALSHA EXEC EXISTS EXPIRE FLUSHALL FLUSHDB GET GETDEL
    GETEX GETSET HDEL HELLO HEXISTS HGET HGETALL HINCRBY HKEYS HLEN HMGET HMSET HSCAN HSET HVALS INCR INCRBY INCRBYFLOAT
    KEYS LLEN LMOVE LPOP LPUSH LRANGE LREM LTRIM MGET MSET MULTI PERSIST PEXPIRE PFADD PING PTTL PUBLISH RENAME RPOP
    RPUSH SADD SCAN SCARD SET SETEX SETNX SISMEMBER SMEMBERS SPOP SREM SSCAN SUBSCRIBE TTL TYPE UNLINK WATCH XACK XADD
    XREAD XREADGROUP ZADD ZCARD ZINCRBY ZPOPMIN ZRANGE ZRANGEBYSCORE ZRANK ZREM ZREVRANGE ZSCAN ZSCORE
"""
_DOCUMENTS: Final = "AGGREGATE BULK COUNT DISTINCT FIND FINDANDMODIFY GETMORE INDEX SEARCH"
_VERBS: Final = frozenset(f"{_SQL} {_REDIS} {_DOCUMENTS}".split())
"""What databases are asked. Only a known one is taken from a name: what else stands there may be somebody's data."""

# -- errors ------------------------------------------------------------------------------------------------------------

_GRPC_CODES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


def error_of(attributes: Attributes, *, failed: bool, exception: object = None) -> str | None:
    """The class of the error, in the form of ``error.type``; ``_OTHER`` where it is not told. None: there was none.

    Args:
        attributes: The span's.
        failed: Whether the span's status is an error.
        exception: The ``exception.type`` of the last exception on the span.
    """
    said = attributes.get("error.type")
    if said is None and not failed:
        return None
    code = attributes.get("rpc.grpc.status_code")
    named = _GRPC_CODES[code] if type(code) is int and 0 < code < len(_GRPC_CODES) else None
    for word in (said, named, attributes.get("rpc.response.status_code"), exception):
        if isinstance(word, str) and word:
            name = word.removeprefix("<class '").removesuffix("'>")  # as some write a class
            return name if BY_KEY["error.type"].accept(name) is not None else OTHER
    status = http_status(attributes)
    return OTHER if status is None or status < 400 else str(status)


def _text(attributes: Attributes, keys: tuple[str, ...]) -> str | None:
    return next((value for key in keys if type(value := attributes.get(key)) is str and value), None)


def _number(attributes: Attributes, keys: tuple[str, ...]) -> int | None:
    return next((value for key in keys if type(value := attributes.get(key)) is int), None)
