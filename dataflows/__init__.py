"""The Bytewax flows, ingest and deliver, and the processes around them."""
