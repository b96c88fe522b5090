"""Changes of a Postgres database, by logical replication: what there is, its copy, and its stream."""
