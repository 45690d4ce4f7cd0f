"""The pipelines of the OpenTelemetry Collector, as files that are made from the schema.

Each pipeline is a template beside this module, written by hand, in which a line ``@block@`` stands for what is made of
:mod:`otel_usage.schema` (:mod:`.blocks`). What is shipped in ``collector-config/`` is made by
``otel-usage collector-config``.
"""

from .choices import Choices
from .template import PIPELINES, pipeline

__all__ = ["PIPELINES", "Choices", "pipeline"]
