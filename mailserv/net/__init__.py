"""Sockets: the threading listener that reuses threads, a connection with absolute deadlines, TLS contexts."""
