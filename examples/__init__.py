"""The demonstration: its pipeline, contracts, maps and seed data, and the embedded servers that it runs on."""
