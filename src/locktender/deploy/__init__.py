"""The only place where wings meet."""
