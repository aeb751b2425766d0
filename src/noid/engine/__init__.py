"""The M6 protocol: events in, outputs out. Pure."""
