"""`ssps user` and `ssps operator`: the users of the parties, and the accounts of the staff site."""
