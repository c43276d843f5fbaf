"""One option table; command line, environment, help, docs and validation all come from it."""
