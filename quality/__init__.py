"""Contracts and what they are checked with."""
