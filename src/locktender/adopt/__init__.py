"""Adopted models: those that sit inside a chain, made safe for many callers as they are."""
