"""What the benchmarks share: the rig, and how a table is printed."""
