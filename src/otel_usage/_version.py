"""The version, read by the build and stamped on every span's instrumentation scope."""

__version__ = "0.1.0"
