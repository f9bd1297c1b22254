"""Tests of the embedded broker: over real sockets wherever a socket is what matters."""
