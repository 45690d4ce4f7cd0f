"""Who may write to which dataset: the rules of Axiom's API tokens."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from typing import Final

from .messages import Request, Response, error_response

DATASET_HEADER: Final = "X-Axiom-Dataset"
"""The header that names the dataset of an OTLP export."""


class Access:
    """Checks the token and the dataset of a request.

    Axiom documents the two headers, and that a token is granted single datasets. That a missing dataset is a 400, an
    unknown one a 404 and a known one without a grant a 403 is not confirmed.
    """

    def __init__(self, grants: Mapping[str, Collection[str] | None], *, other_datasets: Collection[str] = ()) -> None:
        """``grants``: token to the datasets that it may write; None: to any, and the header may be missing.

        ``other_datasets`` exist as well, without a grant.
        """
        self._grants = {token.encode(): datasets for token, datasets in grants.items()}
        self._datasets = frozenset(other_datasets).union(*(datasets or () for datasets in grants.values()))

    def refuse(self, request: Request) -> Response | None:
        """None if the request may write; else the response that says why not: 400, 401, 403 or 404."""
        token = self._known_token(request.header("Authorization"))
        if token is None:
            return error_response(401, "missing or unknown token: send `Authorization: Bearer TOKEN`")
        granted = self._grants[token]
        return None if granted is None else self._refuse_dataset(request.header(DATASET_HEADER), granted)

    def _refuse_dataset(self, dataset: str, granted: Collection[str]) -> Response | None:
        if not dataset:
            return error_response(400, f"missing header {DATASET_HEADER}")
        if dataset in granted:
            return None
        if dataset in self._datasets:
            return error_response(403, f"the token may not write to dataset {dataset!r}")
        return error_response(404, f"dataset {dataset!r} not found")

    def _known_token(self, authorization: str) -> bytes | None:
        scheme, _, sent = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        sent_bytes = sent.strip().encode()
        return next((token for token in self._grants if hmac.compare_digest(token, sent_bytes)), None)
