"""How records get into the transfer ledger: in batches, limited for refusals, and after a crash."""
