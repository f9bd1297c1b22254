"""The shared I/O shell, with real files, processes and brokers."""
