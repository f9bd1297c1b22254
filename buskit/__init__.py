"""The I/O that head office and stores share: files, locks, databases, the MQTT link, terminals."""
