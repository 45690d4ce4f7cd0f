"""Errors of the local sink. Each message is one line that names what to do."""

from __future__ import annotations

from ..errors import UsageError


class LocalError(UsageError):
    """Something that the local sink cannot do."""


class MissingExtraError(LocalError):
    """A package of the extra ``[local]`` is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'otel-usage[local]'")


class StoreError(LocalError):
    """The database file cannot be used."""


class StoreMissingError(StoreError):
    """There is no database file, and none was to be made."""


class StoreLockedError(StoreError):
    """Another process holds the database file."""


class QueryError(LocalError):
    """A query that cannot be answered: it is not APL, names what is not there, or uses what is not run here."""


class QueryTimeoutError(QueryError):
    """A query took too long, and was stopped."""


class RecipeError(LocalError):
    """There is no such recipe, or a value of one of its parameters is missing or wrong."""
