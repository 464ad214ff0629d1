"""Let ``python -m lionheart`` be the command line."""

from lionheart.cli import main

if __name__ == "__main__":
    main()
