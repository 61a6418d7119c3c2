"""Published benchmarks: each a small class that reads problems from the hub or a local file. No data are here."""
