"""Which spool a configuration asks for."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ..config import SpoolMode, UsageConfig
from ..guard import say
from .contract import Spool, SpoolError
from .disk import DiskSpool
from .memory import MemorySpool
from .place import Origin, default_directory
from .sheltered import ShelteredSpool


def open_spool(config: UsageConfig, service: str) -> Spool:
    """The spool of a configuration. Nothing is written before something has to be kept."""
    memory = MemorySpool(most_bytes=config.spool_memory_bytes)
    if config.spool is SpoolMode.OFF:
        return MemorySpool(most_bytes=config.spool_memory_bytes, most_spans=config.queue_size)
    if config.spool is SpoolMode.MEMORY:
        return memory
    try:
        directory = directory_of(config)
    except SpoolError as error:
        say(logging.WARNING, "usage that cannot be sent is kept in memory: %s. Set USAGE_SPOOL to a directory.", error)
        return memory
    return ShelteredSpool(disk_spool(config, directory, service))


def directory_of(config: UsageConfig) -> Path:
    """The directory of a configuration's spool files.

    Raises:
        SpoolError: none is named, and the user has no home.
    """
    return config.spool if isinstance(config.spool, Path) else default_directory(os.environ)


def disk_spool(config: UsageConfig, directory: Path, service: str) -> DiskSpool:
    """The file for a configuration's sink and a service."""
    origin = Origin(config.endpoint, config.axiom_dataset, service)
    return DiskSpool(origin.file_in(directory), origin, most_bytes=config.spool_bytes, longest=config.spool_age)
