"""Names: inodes, their attributes and how long they hold, listings."""
