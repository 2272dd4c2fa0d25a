"""Stand before the methods of an embedding model that knows nothing of other callers."""

from functools import partial
from typing import Any

from locktender.adopt.heavy import owner_of
from locktender.adopt.relay import agenerated, generated
from locktender.adopt.swap import plain_class

__all__ = ["GuardedEmbeddings"]


class GuardedEmbeddings:
    """The four methods of an `Embeddings`, each of which runs in the owner's thread."""

    def embed_documents(self, texts: list[str], *arguments: Any, **options: Any) -> Any:
        """Embed each of `texts`."""
        plain = partial(plain_class(self).embed_documents, self, texts, *arguments, **options)
        return generated(owner_of(self), _alone(plain), None, "\n".join(texts))

    def embed_query(self, text: str, *arguments: Any, **options: Any) -> Any:
        """Embed `text`."""
        plain = partial(plain_class(self).embed_query, self, text, *arguments, **options)
        return generated(owner_of(self), _alone(plain), None, text)

    async def aembed_documents(self, texts: list[str], *arguments: Any, **options: Any) -> Any:
        """Embed each of `texts`."""
        plain = partial(plain_class(self).embed_documents, self, texts, *arguments, **options)
        owner = owner_of(self)
        return await agenerated(owner, _alone(plain), None, "\n".join(texts))

    async def aembed_query(self, text: str, *arguments: Any, **options: Any) -> Any:
        """Embed `text`."""
        plain = partial(plain_class(self).embed_query, self, text, *arguments, **options)
        return await agenerated(owner_of(self), _alone(plain), None, text)


def _alone(plain: partial[Any]) -> Any:
    return lambda _run_manager: plain()
