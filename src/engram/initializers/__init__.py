"""Initial weights by words, one rule a file."""
