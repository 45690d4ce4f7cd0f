"""The clients that the suite runs with. A new one joins by a line here and a program beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Client:
    """One library, or one of its faces."""

    name: str
    distribution: str
    """On the package index. Empty: it comes with Python."""
    program: str
    """The script beside this file that makes its calls."""
    flavour: str = ""
    """Which of the library's faces the script is to use."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """The cases that the library cannot do, with the reason, which the support table shows."""
    python: Path | None = None
    """The interpreter of the environment that it is installed in. None: this one."""

    @property
    def subject(self) -> tuple[str, str, str]:
        """As the table has it: its name, the distribution, and what it is tried with."""
        return self.name, self.distribution, ""

    @property
    def path(self) -> Path:
        return HERE / self.program


IN_ITS_PLACE: Final = HERE.parents[2] / ".venv-niquests" / "bin" / "python"
"""Where urllib3-future has taken urllib3's place, which our exporter is built on, too."""
BESIDE: Final = HERE.parents[2] / ".venv-niquests-beside" / "bin" / "python"
"""Where both are installed, each by its own name."""


def _niquests(where: str, python: Path) -> tuple[Client, Client]:
    return (
        Client(f"niquests{where}", "niquests", "niquests_program.py", python=python),
        Client(f"niquests{where} (async)", "niquests", "niquests_program.py", "async", python=python),
    )


_S3: Final = {
    "post_streamed": "S3 takes no body of unknown length",
    "redirect": "a service's redirect leads to another region of it, and is no matter of the HTTP client",
}

CLIENTS: Final = (
    Client("httpx", "httpx", "httpx_program.py", "httpx"),
    Client("httpx (async)", "httpx", "httpx_program.py", "httpx-async"),
    Client("httpx2", "httpx2", "httpx_program.py", "httpx2"),
    Client("httpx2 (async)", "httpx2", "httpx_program.py", "httpx2-async"),
    Client("aiohttp", "aiohttp", "aiohttp_program.py"),
    Client("urllib3", "urllib3", "urllib3_program.py"),
    Client("requests", "requests", "requests_program.py"),
    Client("urllib.request", "", "urllib_program.py", cannot={"retries": "it retries nothing by itself"}),
    *_niquests("", IN_ITS_PLACE),
    *_niquests(" beside urllib3", BESIDE),
    Client("urllib3-future", "urllib3-future", "urllib3_program.py", python=IN_ITS_PLACE),
    Client("requests on urllib3-future", "requests", "requests_program.py", python=IN_ITS_PLACE),
    Client("boto3", "boto3", "boto3_program.py", cannot=_S3),
    Client("aiobotocore", "aiobotocore", "aiobotocore_program.py", cannot=_S3),
    Client("aiobotocore (httpx)", "aiobotocore", "aiobotocore_program.py", "httpx", cannot=_S3),
)
