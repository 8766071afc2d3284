"""Writes the trees: from a scan in the intake to a file in every entitled party's tree."""
