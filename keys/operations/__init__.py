"""Who changed what, and why; which settings and keys are in force."""
