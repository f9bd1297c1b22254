"""The protocol under seeded faults: the code that ships, on a network and disks that misbehave."""
