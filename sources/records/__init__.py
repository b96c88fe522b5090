"""From payloads to columns: what messages and lines of files hold, read without a broker or a file system."""
