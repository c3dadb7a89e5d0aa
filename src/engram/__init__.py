"""Engram trains vision networks, reviews what they forget, and shows why they learn or don't."""

__version__ = "0.1.0"
