"""Sorry: whether to send a delivery status notification, and its document."""
