"""Attacks that once worked, and what is left of them."""
