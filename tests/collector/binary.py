from pathlib import Path


def collector() -> Path:
    return Path("/work/otelcol")
