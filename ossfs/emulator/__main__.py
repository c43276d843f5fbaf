"""`python -m ossfs.emulator`: the command by itself."""

from ossfs.emulator.main import emulator

emulator(prog_name="ossfs emulator")
