"""Where to? Local domains, aliases, accounts and next hops."""
