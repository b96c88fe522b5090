"""Sources: what reads changes out of the systems that hold them."""
