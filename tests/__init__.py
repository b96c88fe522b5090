"""The tests: flat files named after behaviour, on real servers."""
