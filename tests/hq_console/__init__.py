"""The console of head office: what its commands do, show and refuse."""
