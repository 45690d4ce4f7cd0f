"""The manifests are of the forms that Kubernetes has, and give each Collector what its configuration asks for.

No API server has admitted them and no kubelet has run them: what is checked is their schema, strictly (a field that
does not exist fails), and what a schema cannot say.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.needs import needed_module

CONFIGS = Path(__file__).parents[2] / "collector-config"
MANIFESTS = sorted((CONFIGS / "kubernetes").glob("*.yaml"))
VERSIONS = ("1.29", "1.33", "1.37")
"""Native sidecars are on by default from 1.29."""


def resources(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def pods() -> list[Any]:
    every = [resource for path in MANIFESTS for resource in resources(path)]
    specs = {resource["metadata"]["name"]: resource["spec"] for resource in every if "template" in resource["spec"]}
    return [pytest.param(spec["template"], spec, id=name) for name, spec in specs.items()]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def collector(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = [each for each in containers(pod) if each["name"] == "collector"]
    return found


def config_of(container: dict[str, Any]) -> str:
    """The files that it is started with, one after the other."""
    paths = [Path(argument.removeprefix("--config=")) for argument in container["args"]]
    assert {str(path.parent) for path in paths} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    return "".join((CONFIGS / path.name).read_text() for path in paths)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_each_is_of_the_schema_of_its_kind(path: Path, version: str) -> None:
    validator = needed_module("kubernetes_validate")
    for resource in resources(path):
        assert validator.validate(resource, version, strict=True) == version


def test_a_field_that_does_not_exist_would_be_found() -> None:
    validator = needed_module("kubernetes_validate")
    resource = resources(CONFIGS / "kubernetes" / "daemonset.yaml")[0]
    resource["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFilesystem"] = True
    with pytest.raises(validator.ValidationError, match="readOnlyRootFilesystem"):
        validator.validate(resource, VERSIONS[-1], strict=True)


@pytest.mark.parametrize(("pod", "spec"), pods())
def test_the_environment_has_every_variable_that_the_configuration_cannot_do_without(pod: Any, spec: Any) -> None:
    container = collector(pod)
    given = {variable["name"] for variable in container["env"]}
    asked = set(re.findall(r"\$\{env:(\w+)", config_of(container)))
    without_default = set(re.findall(r"\$\{env:(\w+)\}", config_of(container)))
    assert without_default <= given
    assert given - asked <= {"GOMEMLIMIT"}, "what nobody asks for"


@pytest.mark.parametrize(("pod", "spec"), pods())
def test_what_is_kept_is_on_a_volume(pod: Any, spec: Any) -> None:
    container = collector(pod)
    if "file_storage" not in config_of(container):
        return
    (storage,) = [variable["value"] for variable in container["env"] if variable["name"] == "OTELCOL_STORAGE"]
    (volume,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == storage]
    claimed = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
    assert volume in claimed | {each["name"] for each in pod["spec"]["volumes"]}


@pytest.mark.parametrize(("pod", "spec"), pods())
def test_nothing_runs_as_root_or_writes_elsewhere_or_takes_more_than_it_says(pod: Any, spec: Any) -> None:
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    for container in containers(pod):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"]["drop"] == ["ALL"]
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        if container["name"] == "storage":  # hands a directory of the node's over, which takes root
            assert security["capabilities"]["add"] == ["CHOWN"]
        else:
            assert security.get("runAsNonRoot", True)
            assert "add" not in security["capabilities"]


@pytest.mark.parametrize(("pod", "spec"), pods())
def test_go_gives_memory_back_before_the_kernel_takes_it(pod: Any, spec: Any) -> None:
    container = collector(pod)
    (soft,) = [variable["value"] for variable in container["env"] if variable["name"] == "GOMEMLIMIT"]
    hard = container["resources"]["limits"]["memory"]
    scale = {"Mi": 1, "Gi": 1024}
    assert int(soft.removesuffix("MiB")) <= 0.8 * int(hard[:-2]) * scale[hard[-2:]]


@pytest.mark.parametrize(("pod", "spec"), pods())
def test_the_probes_ask_where_the_health_check_listens_beyond_loopback(pod: Any, spec: Any) -> None:
    container = collector(pod)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "health"
    (health,) = [variable["value"] for variable in container["env"] if variable["name"] == "OTELCOL_HEALTH"]
    assert health == f"0.0.0.0:{ports['health']}"


@pytest.mark.parametrize(("pod", "spec"), pods())
def test_every_token_is_in_a_secret(pod: Any, spec: Any) -> None:
    for container in containers(pod):
        for variable in container.get("env", ()):
            assert ("valueFrom" in variable) == variable["name"].endswith("_TOKEN")


def test_services_lead_to_ports_that_are_there() -> None:
    for path in MANIFESTS:
        every = resources(path)
        templates = {r["metadata"]["name"]: r["spec"]["template"] for r in every if "template" in r["spec"]}
        for service in (r for r in every if r["kind"] == "Service"):
            pod = templates[service["spec"]["selector"]["app.kubernetes.io/name"]]
            there = {port["name"] for container in containers(pod) for port in container.get("ports", ())}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= there
