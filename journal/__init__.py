"""The journal: the vocabulary of changes (batch, schema, position, types), and where they are kept until every sink has them."""
