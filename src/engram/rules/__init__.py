"""Forward and backward of every operation by hand: the chain rule to read and to check against."""
