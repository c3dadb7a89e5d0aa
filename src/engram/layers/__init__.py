"""Modules that torch lacks or that are quicker written once: one idea a file."""
