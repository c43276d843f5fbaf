"""The file system itself: names, handles, semantics. Knows no FUSE."""
