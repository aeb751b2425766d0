# SPDX-License-Identifier: MIT
"""The border of a site: configuration, law, programs, daemon."""
