"""Looks at data: what its columns hold, in facts; and the contract that the facts suggest, as a draft for a person."""
