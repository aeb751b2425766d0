"""The border of a site: configuration, law, programs, daemon."""
