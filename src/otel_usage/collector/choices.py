"""What a deployment may choose of what a pipeline lets through."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..schema import PERSONAL_KEYS


@dataclass(frozen=True, slots=True)
class Choices:
    """The same choices as a service has, and the same defaults: what is shipped in ``collector-config/`` has these."""

    personal: frozenset[str] = frozenset()
    """The personal attributes that leave, as ``USAGE_PERSONAL`` names them to a service."""
    email_addresses: bool = False
    """Whether values may hold e-mail addresses, as ``USAGE_EMAIL_ADDRESSES`` says to a service."""

    def __post_init__(self) -> None:
        if unknown := sorted(self.personal - PERSONAL_KEYS):
            raise ConfigError("--personal", unknown[0], f"keys among {', '.join(sorted(PERSONAL_KEYS))}")
