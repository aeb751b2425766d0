# SPDX-License-Identifier: MIT
"""What a host needs to be reached by M6: tests with real packets, and remedies."""
