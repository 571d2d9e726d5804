"""The public test kit: a fake clock, a DNS zone, a scripted remote MX, the server fixture."""
