"""Keys as settings hold them: ``id:secret``, or a secret alone. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, NamedTuple

SHORTEST_SECRET: Final = 16
"""Characters of a secret at least."""

KEY_ID: Final = re.compile(r"[a-z0-9_-]{1,16}")
"""What a key's name is: the part before the colon, also of a digest that was made with it."""


class NamedKey(NamedTuple):
    """A secret and the name that values made with it carry, so that it can be replaced."""

    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"NamedKey({self.key_id!r}, …)"

    @property
    def strong(self) -> bool:
        """Whether the secret is long enough, and what somebody can have typed."""
        return len(self.secret) >= SHORTEST_SECRET and self.secret.isprintable()


def named_key(text: str) -> NamedKey:
    """The key of ``id:secret``. A secret alone has an id that is derived from it."""
    key_id, separator, secret = text.partition(":")
    if separator and KEY_ID.fullmatch(key_id):
        return NamedKey(key_id, secret)
    return NamedKey(blake2b(stretched(text), digest_size=2, person=b"otel_usage.kid").hexdigest(), text)


def stretched(secret: str) -> bytes:
    """The secret as 64 bytes, which is the most that BLAKE2b takes for a key: a longer one is folded, not cut."""
    return blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=64).digest()
