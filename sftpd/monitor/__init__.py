"""The parent process: accepts connections, forks one child for each, records, enforces, reaps."""
