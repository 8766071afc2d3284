"""`ssps key`: the credentials of the parties, and the server's own keys."""
