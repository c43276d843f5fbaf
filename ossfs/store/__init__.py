"""What a bucket can do: one protocol (`api`), its implementations, errors, retry and transfer."""
