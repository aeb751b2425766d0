# SPDX-License-Identifier: MIT
"""Every figure the documentation quotes, measured again with one command."""
