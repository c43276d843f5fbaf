"""The commands: thin, quick to start, and the only place that talks to a terminal."""
