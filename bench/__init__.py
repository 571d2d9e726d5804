"""The benchmark: mailserv and its peers on one machine, over loopback. `bench/run --help`; docs/performance.md."""
