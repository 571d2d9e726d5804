"""The hook specifications, the plugin host, and the runner that isolates plugins."""
