"""The answer of a SQL query as a source: asked again from time to time, it is copied whole."""
