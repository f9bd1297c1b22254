"""The tests of storebus; `make test` runs them all."""
