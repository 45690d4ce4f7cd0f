"""With gateway-tls.yaml, the gateway speaks TLS alone, and to nobody without a certificate where it asks for one."""

from __future__ import annotations

import gzip
import http.client
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.needs import needed_collector

from .collectors import CONFIGS, PATIENCE, Collector
from .facts import request
from .gateways import AGENTS_TOKEN, Gateway, gateway, times, wait_until
from .otlp import export

OVERLAY = CONFIGS / "gateway-tls.yaml"


@dataclass(frozen=True)
class Secured:
    """A gateway that asks for certificates, and who issues them."""

    gateway: Gateway
    authority: trustme.CA

    def send(self, certificate: trustme.LeafCert | None) -> int:
        """Post a request over TLS, with a certificate or without."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        port = self.gateway.collector.http
        with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)) as connection:
            headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
            headers["Authorization"] = f"Bearer {AGENTS_TOKEN}"
            connection.request("POST", "/v1/traces", gzip.compress(export([request()]).SerializeToString()), headers)
            return connection.getresponse().status


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    files = {
        "OTELCOL_TLS_CERT": str(tmp_path / "cert.pem"),
        "OTELCOL_TLS_KEY": str(tmp_path / "key.pem"),
        "OTELCOL_TLS_CLIENT_CA": str(tmp_path / "ca.pem"),
    }
    with gateway(tmp_path, overlay=OVERLAY, **files) as running:
        yield Secured(running, authority)


def test_an_agent_with_a_certificate_is_listened_to(secured: Secured) -> None:
    assert secured.send(secured.authority.issue_cert("agent.example")) == 200
    wait_until(lambda: times(secured.gateway.usage), lambda: secured.gateway.usage.requests)


def test_nobody_else_is(secured: Secured) -> None:
    for certificate in (None, trustme.CA().issue_cert("agent.example")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            secured.send(certificate)
    assert secured.gateway.send([request()]) == 400  # in the clear
    assert secured.send(secured.authority.issue_cert("agent.example")) == 200
    wait_until(lambda: times(secured.gateway.usage), lambda: secured.gateway.usage.requests)
    assert len(secured.gateway.usage.spans) == 1


def test_it_does_not_start_without_a_certificate(tmp_path: Path) -> None:
    needed = {"OTELCOL_TOKEN": "a", "TRACES_TOKEN": "b", "TRACES_URL": "http://127.0.0.1:1"}
    started = Collector(needed_collector(), CONFIGS / "gateway.yaml", tmp_path, overlay=OVERLAY, **needed)
    started.launch()
    try:
        assert started.process is not None
        assert started.process.wait(PATIENCE) != 0
        assert "must include both certificate and key" in started.said()
    finally:
        started.kill()
