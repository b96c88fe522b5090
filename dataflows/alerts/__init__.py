"""Looks for what owners have to know of, and tells it by the channels of the pipeline file."""
