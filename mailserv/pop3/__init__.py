"""Come and get it: the POP3 listener thread and its sessions."""
