"""What OpenTelemetry knows of the service, as far as it may leave."""

from __future__ import annotations

from opentelemetry.sdk.resources import SERVICE_NAME, Resource

from .allowlist import filter_attributes
from .exporters.redacting import Redactor
from .ledger import DropCounter
from .schema import RESOURCE, SCHEMA_URL


def service_resource(redactor: Redactor, drops: DropCounter) -> Resource:
    """``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES``, allowlisted and redacted. ``drops`` counts the rest."""
    found = filter_attributes(RESOURCE, Resource.create().attributes, drops)
    return Resource(redactor.attributes(found), SCHEMA_URL)


def service_name(resource: Resource) -> str:
    """The service's name. Empty: it has none that may leave."""
    return str(resource.attributes.get(SERVICE_NAME, ""))
