"""Which exporter a configuration asks for."""

from __future__ import annotations

from typing import Final

from ..config import OtlpProtocol, UsageConfig
from ..guard import logger
from .encoder import Encoder
from .outcome import NowhereExporter, UsageExporter
from .redacting import Redactor

NO_TOKEN: Final = "no_token"
"""The reason that spans are dropped for where they would go to Axiom and there is no token."""


def open_exporter(config: UsageConfig, redactor: Redactor) -> UsageExporter:
    """The exporter to a configuration's sink. ``redactor`` takes out of spans what must not leave.

    Raises:
        ConfigError: the environment names a proxy for the endpoint that is none.
    """
    if config.lacks_token:
        return NowhereExporter(NO_TOKEN)
    headers = {"X-Axiom-Dataset": config.axiom_dataset}
    if config.axiom_token is not None and config.token_may_travel:
        headers["Authorization"] = f"Bearer {config.axiom_token}"
    elif config.axiom_token is not None:
        logger.warning("AXIOM_API_TOKEN is not sent to %s: the connection is not encrypted", config.endpoint)
    encoder = Encoder(redactor, official=config.official_encoder)
    # Each transport is imported where it is chosen: gRPC alone costs more to import than all of this package.
    if config.otlp_protocol is OtlpProtocol.GRPC:
        from .otlp_grpc import OtlpGrpcExporter

        return OtlpGrpcExporter(config.endpoint, headers, config.export_timeout, encoder)
    from .otlp_http import OtlpHttpExporter

    return OtlpHttpExporter(config.endpoint, headers, config.export_timeout, encoder)
