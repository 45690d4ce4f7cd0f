"""The parameters of recipes: what their values are read from, and how they are written into a query.

A value becomes a literal of APL or a number and nothing else, whatever it is: what somebody passes as a customer's name
is never a part of the query. Pure.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from .errors import RecipeError

_AGE: Final = re.compile("([0-9]{1,5})([smhd])")
_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_HEX: Final = re.compile("[0-9a-f]{32}")
_COUNT: Final = re.compile("[0-9]{1,5}")
_WEEK: Final = timedelta(days=7)
_LONGEST_TEXT: Final = 256
_LONGEST_WINDOW: Final = timedelta(days=3660)
_MOST_ROWS: Final = 10_000
_MOST_NAMES: Final = 500
_MOST_NUMBER: Final = 10**12


@dataclass(frozen=True, slots=True)
class PriceList:
    """What is paid, in any one currency."""

    models: Mapping[str, tuple[Decimal, Decimal]]
    """By a model's name: the prices of a million tokens of input and of output."""
    providers: Mapping[str, Decimal]
    """By a provider's name: the price of one call."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a parameter takes."""

    doc: str
    parse: Callable[[str], Any]
    """The value of a text. Raises ValueError, which says what is accepted."""
    render: Callable[[Any], Mapping[str, str]]
    """The texts that are put into the query, by the names of their places."""
    reach: Callable[[Any], timedelta] = lambda _: timedelta()
    """How far back a query looks for a value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of one recipe."""

    name: str
    default: Any
    """None: there is none."""
    required: bool
    """Whether the recipe needs a value. Without one that it does not need, the lines about it are left out."""

    @property
    def doc(self) -> str:
        """What it takes."""
        return KINDS[self.name].doc

    def parse(self, text: str) -> Any:
        """The value that a text stands for.

        Raises:
            RecipeError: it stands for none.
        """
        try:
            return KINDS[self.name].parse(text)
        except ValueError as error:
            raise RecipeError(f"{self.name}: {error}") from error

    def render(self, value: Any) -> Mapping[str, str]:
        """What is put into the query for a value that :meth:`parse` has returned."""
        return KINDS[self.name].render(value)

    def reach(self, value: Any) -> timedelta:
        """How far back the query looks for it."""
        return KINDS[self.name].reach(value)


def age(text: str) -> timedelta:
    """The duration that `15m` or `7d` is.

    Raises:
        ValueError: it is none, or it is nothing, or longer than ten years.
    """
    match = _AGE.fullmatch(text)
    duration = timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match else timedelta()
    if not timedelta() < duration <= _LONGEST_WINDOW:
        raise ValueError(f"{text!r} is not an age: it takes a number and s, m, h or d, such as 1h")
    return duration


def timespan(duration: timedelta) -> str:
    """A duration of whole seconds as APL writes it: ``1h``."""
    seconds = int(duration.total_seconds())
    unit, size = next((unit, size) for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // size}{unit}"


def literal(text: str) -> str:
    """A text as a string literal of APL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(text: str) -> str:
    # No control character, no line break and no surrogate: nothing that ends a literal in any reader's opinion.
    if not (0 < len(text) <= _LONGEST_TEXT and text.isprintable()):
        raise ValueError(f"it takes 1 to {_LONGEST_TEXT} characters, all of them printable")
    return text


def _count(text: str) -> int:
    if not (_COUNT.fullmatch(text) and 1 <= int(text) <= _MOST_ROWS):
        raise ValueError(f"{text!r} is not a number of rows: it takes 1 to {_MOST_ROWS}")
    return int(text)


def _trace(text: str) -> str:
    if not _HEX.fullmatch(text.lower()):
        raise ValueError(f"{text!r} is not a trace id: it takes 32 hexadecimal digits")
    return text.lower()


def _week_window(text: str) -> timedelta:
    duration = age(text)
    if duration > _WEEK:
        raise ValueError(f"{text!r} is longer than the week that it is compared over: it takes up to 7d")
    return duration


class _TwiceError(ValueError):
    """A name stands twice in an object: which of its values is meant is not known."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise _TwiceError(f"{twice!r} is there twice")
    return value


def _json_object(text: str, form: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_float=Decimal, object_pairs_hook=_once)
    except _TwiceError:
        raise
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"it takes JSON such as {form}, or @FILE with that in it")
    if len(value) > _MOST_NAMES:
        raise ValueError(f"it takes {_MOST_NAMES} names at most")
    return value


def _prices(text: str) -> PriceList:
    form = '{"models": {"gpt-5": {"input": 1.25, "output": 10}}, "providers": {"yahoo-finance": 0.002}}'
    value = _json_object(text, form)
    models, providers = value.pop("models", {}), value.pop("providers", {})
    if value or not isinstance(models, dict) or not isinstance(providers, dict):
        raise ValueError(f"it takes JSON such as {form}")
    if max(len(models), len(providers)) > _MOST_NAMES:
        raise ValueError(f"it takes {_MOST_NAMES} names at most")
    return PriceList(
        {_text(name): _model_price(name, price) for name, price in models.items()},
        {_text(name): _number(name, price) for name, price in providers.items()},
    )


def _model_price(name: str, price: Any) -> tuple[Decimal, Decimal]:
    if not isinstance(price, dict) or set(price) != {"input", "output"}:
        raise ValueError(f'the price of {name!r} is {{"input": …, "output": …}}, of a million tokens')
    return _number(name, price["input"]), _number(name, price["output"])


def _number(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 <= value <= _MOST_NUMBER:
        raise ValueError(f"what {name!r} is given is not a number from 0 to {_MOST_NUMBER}")
    return Decimal(value)


def _plans(text: str) -> Mapping[str, int]:
    value = _json_object(text, '{"free": 1000, "api_pro": 100000}')
    for name, requests in value.items():
        _text(name)
        if isinstance(requests, bool) or not isinstance(requests, int) or not 0 < requests <= _MOST_NUMBER:
            raise ValueError(f"what {name!r} is given is not a number of requests from 1 to {_MOST_NUMBER}")
    return value


def _choice(column: str, numbers: Mapping[str, str], otherwise: str) -> str:
    """What has the number of the name that stands in a column."""
    if not numbers:
        return otherwise
    pairs = (f"{column} == {literal(name)}, {number}" for name, number in numbers.items())
    return f"case({', '.join(pairs)}, {otherwise})"


def _list(names: Mapping[str, Any]) -> str:
    return f"({', '.join(map(literal, names)) or literal('(nothing has a price)')})"


def _real(number: Decimal) -> str:
    text = f"{number:f}"
    return text if "." in text else f"{text}.0"


def _render_prices(prices: PriceList) -> Mapping[str, str]:
    return {
        "input_price": _choice("model", {name: _real(each[0]) for name, each in prices.models.items()}, "0.0"),
        "output_price": _choice("model", {name: _real(each[1]) for name, each in prices.models.items()}, "0.0"),
        "call_price": _choice("provider", {name: _real(each) for name, each in prices.providers.items()}, "0.0"),
        "priced_models": _list(prices.models),
        "priced_providers": _list(prices.providers),
    }


def _render_week_window(window: timedelta) -> Mapping[str, str]:
    return {"week_window": timespan(window), "week_window_before": timespan(window + _WEEK)}


KINDS: Final[Mapping[str, Kind]] = {
    "window": Kind(
        "how far back: a number and `s`, `m`, `h` or `d`",
        age,
        lambda value: {"window": timespan(value)},
        lambda value: value,
    ),
    "week_window": Kind(
        "how far back, up to `7d`; it is compared with as long a time a week earlier",
        _week_window,
        _render_week_window,
        lambda value: value + _WEEK,
    ),
    "customer": Kind("only this customer", _text, lambda value: {"customer": literal(value)}),
    "service": Kind("only what this service received", _text, lambda value: {"service": literal(value)}),
    "limit": Kind(f"rows at most, up to {_MOST_ROWS:,}", _count, lambda value: {"limit": str(value)}),
    "trace": Kind(
        "a trace id, of OpenTelemetry or Sentry: 32 hexadecimal digits", _trace, lambda value: {"trace": literal(value)}
    ),
    "prices": Kind(
        "what models and providers cost, as JSON: "
        '`{"models": {"gpt-5": {"input": 1.25, "output": 10}}, "providers": {"yahoo-finance": 0.002}}`, '
        "for a million tokens and for a call",
        _prices,
        _render_prices,
    ),
    "plans": Kind(
        'how many requests each plan has in the window, as JSON: `{"free": 1000, "api_pro": 100000}`',
        _plans,
        lambda value: {"plan_limit": _choice("plan", {name: str(each) for name, each in value.items()}, "0")},
    ),
}
"""Every parameter that a recipe may have, by its name."""
