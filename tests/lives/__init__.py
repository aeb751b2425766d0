# SPDX-License-Identifier: MIT
"""Second lives, clean-up and failures of what touches the host."""
