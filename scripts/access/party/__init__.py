"""`ssps party`: the parties, what was agreed with each, and the request forms that they send."""
