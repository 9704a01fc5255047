"""Measures a network on this host and says what limits it: ``fleet-worker bench``."""
