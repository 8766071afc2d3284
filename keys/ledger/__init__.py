"""The record: entries, segments, Merkle tree, signed checkpoints, receipts, verification."""
