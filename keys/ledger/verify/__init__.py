"""Proves that a ledger is what was signed for, or names the first record that is not."""
