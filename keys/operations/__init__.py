"""Records of changes and settings, and the state that the running server publishes."""
