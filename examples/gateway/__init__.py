"""An example: the gateway of a small API business, the providers behind it, and callers in front of it."""
