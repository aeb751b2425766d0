"""Second lives, clean-up and failures of what touches the host."""
