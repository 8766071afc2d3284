"""Reads the trees: the SFTP server that the parties mirror from."""
