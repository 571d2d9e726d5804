"""How long and how much: retention, quotas, and who is told."""
