"""What a child and the monitor say to each other."""
