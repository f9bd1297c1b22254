"""The contract: names, topics, messages and the log machine."""
