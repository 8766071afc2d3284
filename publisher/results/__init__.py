"""Result batches become versions, checks, signed snapshots and exports."""
