"""What head office sees of its directives: custody, reasons, parts, and what comes next."""
