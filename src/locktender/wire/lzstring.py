"""lz-string's `compressToEncodedURIComponent`, and back."""

__all__ = ["decompress_from_encoded_uri_component"]


def decompress_from_encoded_uri_component(text: str) -> str:
    """Return the text.  Raises: ValueError."""
    raise ValueError(text)
