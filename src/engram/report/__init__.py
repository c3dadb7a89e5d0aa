"""Reports: a pure function of run folders that gives one HTML file. Nothing here imports torch."""

from engram.report.page import write, write_many

__all__ = ["write", "write_many"]
