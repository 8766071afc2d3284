"""What operators ask of a running publisher, and how it answers."""
