"""The bad network: a TCP proxy that does to connections what networks do, and namespaces."""
