"""Know packages: what is a library's, what is the user's, and what is not worth a look inside.

A table of names, and questions to it.  The objects of opaque packages are weights, arrays, clients
and their like: large, and without room for anything of the user's; so are those of the standard
library, but for the modules whose objects are made to hold others.  What a library defines is not
the user's: neither the globals of its functions nor the attributes of its classes lead to a model.
"""

import sys

__all__ = [
    "is_chain_library",
    "is_library",
    "is_opaque_package",
    "is_standard_opaque",
]

_STANDARD = sys.stdlib_module_names - {"__main__"}
_HOLDING = frozenset(
    """
    _asyncio _collections _contextvars _functools _io _operator _queue _thread _weakref _weakrefset
    abc builtins collections concurrent contextlib contextvars copy dataclasses enum functools
    itertools operator queue types weakref
    """.split()  # noqa: SIM905 - a line for each name would hide the module
)
# Of modules that are opaque otherwise, and the other way round.
_HOLDERS = frozenset(
    {
        "_asyncio.Future",
        "_asyncio.Task",
        "_thread._local",
        "asyncio.futures.Future",
        "asyncio.queues.LifoQueue",
        "asyncio.queues.PriorityQueue",
        "asyncio.queues.Queue",
        "asyncio.tasks._GatheringFuture",
    }
)
_CLOSED = ("_io.", "_thread.", "_asyncio.", "concurrent.futures.thread", "concurrent.futures.proc")
_OPAQUE = frozenset(
    """
    PIL accelerate aiohttp anthropic chromadb ctransformers diffusers faiss fsspec google gpt4all
    grpc httpcore httpx httpx2 huggingface_hub jinja2 keras langsmith llama_cpp mlx mlx_lm numpy
    ollama onnxruntime openai openvino openvino_genai opentelemetry orjson pandas peft polars
    psycopg pyarrow pydantic_core qdrant_client redis regex requests safetensors scipy
    sentence_transformers sklearn sqlalchemy starlette tensorflow tenacity tiktoken tokenizers torch
    transformers urllib3 uvloop vllm
    """.split()  # noqa: SIM905 - a line for each name would hide the module
)
_LIBRARIES = _OPAQUE | frozenset(
    """
    attr attrs fastapi langchain langchain_anthropic langchain_classic langchain_community
    langchain_core langchain_experimental langchain_google_genai langchain_huggingface
    langchain_mistralai langchain_ollama langchain_openai langchain_text_splitters langgraph
    langgraph_sdk langserve locktender pydantic typing_extensions uvicorn
    """.split()  # noqa: SIM905 - a line for each name would hide the module
)


# Their objects hold what the user has put together.
_OF_CHAINS = ("langchain", "langgraph", "locktender")
_COMPILED = "_cython_"  # the classes of compiled functions


def is_library(module: str) -> bool:
    """Whether a module is of the standard library or of a library that is known."""
    package = module.partition(".")[0]
    return package in _LIBRARIES or package in _STANDARD or package.startswith(_COMPILED)


def is_chain_library(module: str) -> bool:
    """Whether a module is of a library whose objects are the links of chains."""
    return is_library(module) and module.startswith(_OF_CHAINS)


def is_opaque_package(package: str) -> bool:
    """Whether the objects of a package are not looked into."""
    return package in _OPAQUE or package.startswith(_COMPILED)


def is_standard_opaque(name: str) -> bool:
    """Whether a class, by its qualified name, is the standard library's and holds nothing."""
    package = name.partition(".")[0]
    if package not in _STANDARD or name in _HOLDERS:
        return False
    return package not in _HOLDING or name.startswith(_CLOSED)
