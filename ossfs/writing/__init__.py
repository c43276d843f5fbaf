"""Writing: sequential, appendable and staged files; copies and moves of objects."""
