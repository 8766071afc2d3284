"""The monitor's other processes: host keys, the judge of credentials, the forker of sessions."""
