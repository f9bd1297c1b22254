"""Small programs as a store would write them, to run and to copy from."""
