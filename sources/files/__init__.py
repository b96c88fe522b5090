"""Folders of files as sources: each file that comes to lie there is read once."""
