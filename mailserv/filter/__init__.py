"""May this pass? Checks, header completion, limits."""
