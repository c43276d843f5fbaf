"""One option table; command line, files, help, docs and validation all come from it."""
