# SPDX-License-Identifier: MIT
"""Names and locators: records and verification (pure), the stub resolver (not)."""
