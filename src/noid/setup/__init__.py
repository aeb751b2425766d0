# SPDX-License-Identifier: MIT
"""``noid setup``: what a host has, the steps that it lacks, and a journal that takes them back."""
