"""The store's side: database, rules, core, commands and daemon."""
