"""Everything durable: SQLite in WAL with one writer thread and group commit. Only this package knows SQL."""
