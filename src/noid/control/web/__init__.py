# SPDX-License-Identifier: MIT
"""``noid web``: a read-only page about the daemon of this host, served over HTTP.

A process of its own, which knows what the control socket says and nothing else. The page's files
are beside this one; it loads nothing from elsewhere.
"""
