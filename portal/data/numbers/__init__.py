"""The numbers of one snapshot, in memory: its boxes, columns and sums."""
