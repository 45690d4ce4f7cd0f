"""Every client, in every way that usage is switched on, is held to the same contract."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import distributions

import pytest
from packaging.version import Version

from otel_usage.instrumentation import requests, urllib3_future
from tests.needs import needed_environment

from .contract import CONTRACT
from .declared import CLIENTS, IN_ITS_PLACE, Client
from .runs import MODES, NAMES, Run, performed

RunOf = Callable[[Client, str], Run]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """The one run of a client in a mode, made when it is first asked for."""

    @cache
    def run(name: str, mode: str) -> Run:
        (client,) = [each for each in CLIENTS if each.name == name]
        return performed(client, mode, tmp_path_factory.mktemp("client"))

    return lambda client, mode: run(client.name, mode)


every_run = pytest.mark.parametrize(
    ("client", "mode"),
    [pytest.param(client, mode, id=f"{client.name} {mode}") for client in CLIENTS for mode in MODES],
)


@every_run
@pytest.mark.parametrize("case", NAMES)
def test_the_contract_is_kept(run_of: RunOf, client: Client, mode: str, case: str) -> None:
    run = run_of(client, mode)
    spans = run.by_case.get(case, [])
    if case in client.cannot:
        assert client.cannot[case], "a reason is given"
        assert spans == []
        pytest.xfail(client.cannot[case])
    assert spans, run.log
    CONTRACT[case](run, spans)


@every_run
def test_the_program_ends_well_and_says_nothing(run_of: RunOf, client: Client, mode: str) -> None:
    run = run_of(client, mode)
    assert run.returned == 0, run.log
    assert "usage" not in run.log


@every_run
def test_no_attempt_is_recorded_that_no_case_has_made(run_of: RunOf, client: Client, mode: str) -> None:
    """No call is seen twice, none that was suppressed, and none after usage was switched off."""
    run = run_of(client, mode)
    assert set(run.by_case) == set(NAMES) - set(client.cannot)
    assert run.trusted.asked["/bytes/301"] == run.trusted.asked["/bytes/302"] == 1, "which were made all the same"


def test_every_case_has_its_clause() -> None:
    assert set(CONTRACT) == set(NAMES)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_what_a_client_cannot_do_is_a_case(client: Client) -> None:
    assert set(client.cannot) <= set(NAMES)


@pytest.mark.parametrize("tested", [requests.TESTED, urllib3_future.TESTED], ids=["niquests", "urllib3-future"])
def test_what_is_installed_elsewhere_is_what_is_said_to_be_tested(tested: dict[str, str]) -> None:
    needed_environment(IN_ITS_PLACE)
    (site,) = IN_ITS_PLACE.parents[1].glob("lib/python*/site-packages")
    for distribution, said in tested.items():
        (found,) = distributions(name=distribution, path=[str(site)])
        assert Version(found.version) >= Version(said), "the tests have run with another"
