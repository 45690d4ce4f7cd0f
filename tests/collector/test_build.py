"""The script that builds the Collector, with a Go that builds nothing but says what it was asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[2] / "collector-config" / "build.sh"
MANIFEST = "dist:\n  name: small\n  version: 1.2.3\n  output_path: ./generated\n"
GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99 linux amd64; exit; fi
echo "$@" >> "$CALLS"
cat > "$GOBIN/builder" << 'END'
#!/bin/sh
sleep 0.2
mkdir generated
echo built > generated/small
chmod +x generated/small
END
chmod +x "$GOBIN/builder"
"""


class Builder:
    """The script, with a manifest and a cache of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.cache, self.calls, self.manifest = directory / "cache", directory / "calls", directory / "small.yaml"
        self.manifest.write_text(MANIFEST)
        programs = directory / "bin"
        programs.mkdir()
        (programs / "go").write_text(GO)
        (programs / "go").chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{os.defpath}", "OTELCOL_CACHE": str(self.cache), "CALLS": str(self.calls),
        }  # fmt: skip

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BUILD, *arguments, self.manifest], env={**self.environment, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        with self.start(*arguments, **environment) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out.strip(), err

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def test_it_builds_once_and_says_where(builder: Builder) -> None:
    code, path, said = builder.run()
    assert (code, Path(path).read_text(), Path(path).parent) == (0, "built\n", builder.cache)
    assert "building small 1.2.3" in said
    assert builder.run() == (0, path, "")
    assert builder.asked() == ["install go.opentelemetry.io/collector/cmd/builder@v1.2.3"]
    assert [entry.name for entry in builder.cache.iterdir()] == [Path(path).name]


def test_two_at_once_are_in_nobodys_way(builder: Builder) -> None:
    both = [builder.start() for _ in range(2)]
    paths = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(paths) == 1
    assert [str(entry) for entry in builder.cache.iterdir()] == list(paths)


def test_another_manifest_is_another_binary_and_a_comment_is_none(builder: Builder) -> None:
    _, first, _ = builder.run()
    builder.manifest.write_text("# why\n" + MANIFEST)
    assert builder.run("--if-built") == (0, first, "")
    builder.manifest.write_text(MANIFEST.replace("1.2.3", "1.2.4"))
    code, path, said = builder.run("--if-built")
    assert (code, path) == (1, "")
    assert "the Collector of small.yaml is not built: make collector builds it" in said
    assert len(builder.asked()) == 1


def test_code_beside_the_manifest_is_part_of_what_is_built(builder: Builder) -> None:
    ours = builder.manifest.parent / "ours"
    ours.mkdir()
    (ours / "a.go").write_text("package ours\n")
    builder.manifest.write_text(MANIFEST + "connectors:\n  - gomod: example.com/ours v0.0.0\n    path: ours\n")
    assert builder.run()[0] == 0
    assert builder.run("--if-built")[0] == 0
    (ours / "a.go").write_text("package ours // changed\n")
    assert builder.run("--if-built")[0] == 1


def test_a_build_that_fails_leaves_nothing(builder: Builder) -> None:
    builder.manifest.write_text(MANIFEST.replace("name: small", "name: large"))
    code, path, said = builder.run()
    assert (code != 0, path) == (True, "")
    assert "large" in said
    assert not list(builder.cache.iterdir())


def test_without_go_it_says_what_to_do(builder: Builder, tmp_path: Path) -> None:
    code, path, said = builder.run(PATH=os.defpath)
    assert (code, path) == (2, "")
    assert said == "build.sh needs Go 1.26 or later, which is not installed; OTELCOL names a Collector that is there\n"
