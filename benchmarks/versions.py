"""``python -m benchmarks.versions``: what is installed in this environment, as JSON."""

from __future__ import annotations

import json
from importlib.metadata import distributions


def installed() -> dict[str, str]:
    """Versions by normalized name."""
    return {each.metadata["Name"].lower().replace("_", "-"): each.version for each in distributions()}


if __name__ == "__main__":
    print(json.dumps(installed()))
