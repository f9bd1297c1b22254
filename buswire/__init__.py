"""The contract between head office and stores, as programs see it: pure, no I/O, no clock."""
