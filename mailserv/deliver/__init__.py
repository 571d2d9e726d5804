"""Out of the door: transports, MX lookup, the SMTP client connection."""
