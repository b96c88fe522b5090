"""The pipeline file: its models, how it is read, and the errors that every room raises. Plain data; imports no other room."""
