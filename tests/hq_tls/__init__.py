"""Head office's own CA: certificates that hold at any clock, and files that survive anything."""
