# SPDX-License-Identifier: MIT
"""``noid setup``: detects the state of a host, plans the missing steps, and keeps a journal."""
