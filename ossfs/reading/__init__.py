"""Reading: blocks, what is held of an object, windows that run ahead of a reader."""
