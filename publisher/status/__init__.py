"""How a site is doing now: counts, rates, places and health, for commands, metrics and the wall."""
