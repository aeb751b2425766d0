"""The daemons: what runs, and how its parts are connected."""
