"""The SSH protocol in a child: transport, packets, authentication, channels."""
