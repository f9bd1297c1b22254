"""Head office's side: the roster, the ledger, the hub and the console `hq`."""
