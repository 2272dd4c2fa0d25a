"""Observers: what is done with the events that the core emits."""
