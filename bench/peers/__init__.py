"""The servers that are measured. Each has a folder with its configuration and a `peer.py` that starts it."""
