"""The noid command."""
