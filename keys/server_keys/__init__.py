"""Who we are: host keys, signing keys, SSHSIG signatures."""
