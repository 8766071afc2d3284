"""Commands for registry, status, quarantine, verification and export."""
