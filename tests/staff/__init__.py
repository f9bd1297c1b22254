"""What staff of a store see: languages, the list, and what they are told."""
