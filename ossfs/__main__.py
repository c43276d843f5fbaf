"""`python -m ossfs` is `ossfs`."""

from ossfs.cli.main import main

if __name__ == "__main__":
    main()
