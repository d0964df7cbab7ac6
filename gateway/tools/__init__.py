"""Client commands: what a person at a shell asks of a running site, over the same wires as any other client."""
