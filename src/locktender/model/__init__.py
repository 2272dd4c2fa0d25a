"""The model layer: local models behind a bounded, fair, cancellable gate."""
