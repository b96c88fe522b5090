"""Sinks: what writes changes into warehouses and stores. One file a kind."""
