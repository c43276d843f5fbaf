"""What every room uses and what uses none of them: budget, clock, metrics, logging."""
