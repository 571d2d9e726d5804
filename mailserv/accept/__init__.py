"""From sockets to envelopes: the listener, the SMTP session and its transaction."""
