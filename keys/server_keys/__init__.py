"""The site's own keys: host keys, the signing key, and SSHSIG signatures."""
