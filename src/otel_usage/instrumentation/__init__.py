"""Hooks into frameworks, clients and threads. Each file hooks one library; ``hooks`` is how."""
