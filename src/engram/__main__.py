"""`python -m engram` is the `engram` command."""

from engram.cli.app import main

if __name__ == "__main__":
    main()
