"""The nouns of mail: frozen values without I/O, importable by plugins."""
