"""The messages between a connection's child and the monitor, and what they share in memory."""
