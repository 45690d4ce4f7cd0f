"""What cannot be sent is kept: on disk for this and later processes, or in memory."""
