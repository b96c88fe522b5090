"""Runnable comparisons, side by side with the bound or the peer in one run. Not tests: nothing fails because it is slow."""
