# SPDX-License-Identifier: MIT
"""What survives a daemon: identity, contexts, and how both are restored."""
