"""Prints all that the broker holds."""

from __future__ import annotations

import asyncio
import os
from importlib import import_module

print(asyncio.run(import_module(os.environ["QUEUE"]).held()))
