"""The `ssps` command: a module for each command or group of commands. Nothing imports it."""
