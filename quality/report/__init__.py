"""What a data owner reads: one self-contained page for each dataset, an index, and the same numbers as JSON."""
