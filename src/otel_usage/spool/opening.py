"""Which spool a configuration asks for."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import SpoolMode, UsageConfig
from ..guard import say
from .contract import Spool, SpoolError
from .memory import MemorySpool
from .place import Origin, default_directory

if TYPE_CHECKING:
    from .disk import DiskSpool


def open_spool(config: UsageConfig, service: str) -> Spool:
    """The spool of a configuration. Nothing is written before something has to be kept."""
    memory = MemorySpool(
        most_bytes=config.spool_memory_bytes,
        most_spans=config.queue_size if config.spool is SpoolMode.OFF else None,
    )
    if config.spool in (SpoolMode.OFF, SpoolMode.MEMORY):
        return memory
    try:
        from .sheltered import ShelteredSpool  # which needs SQLite and fcntl: not every Python has them

        return ShelteredSpool(disk_spool(config, directory_of(config), service))
    except ImportError:
        say(logging.WARNING, "usage that cannot be sent is kept in memory: here is no SQLite, or no POSIX file locks")
    except SpoolError as error:
        say(logging.WARNING, "usage that cannot be sent is kept in memory: %s. Set USAGE_SPOOL to a directory.", error)
    return memory


def directory_of(config: UsageConfig) -> Path:
    """The directory of a configuration's spool files.

    Raises:
        SpoolError: none is named, and the user has no home.
    """
    return config.spool if isinstance(config.spool, Path) else default_directory(os.environ)


def disk_spool(config: UsageConfig, directory: Path, service: str) -> DiskSpool:
    """The file for a configuration's sink and a service."""
    from .database import Database
    from .disk import DiskSpool

    origin = Origin(config.endpoint, config.axiom_dataset, service)
    return DiskSpool(
        Database(origin.file_in(directory), origin),
        most_bytes=config.spool_bytes,
        longest=config.spool_age,
        batch=config.batch_size,
    )
