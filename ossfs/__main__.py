"""`python -m ossfs` is `ossfs`, and this is where both begin.

Until the command line is up, Ctrl-C ends the process as it ends any other, without a traceback of
whatever import it happens to interrupt.
"""

import signal


def main() -> None:
    """Run the command line."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ossfs.cli import main as command

    signal.signal(signal.SIGINT, interrupt)
    command.main()


if __name__ == "__main__":
    main()
