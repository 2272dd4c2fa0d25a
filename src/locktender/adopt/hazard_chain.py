"""Know which model classes of LangChain break when several callers use one object, and why.

Rows, by the qualified names of classes, so that no package in them needs to be there.  `hazards`
asks them of an object; what they run inside, past LangChain, is `hazard_raw`'s.
"""

from locktender.adopt.hazard import Action, Hazard

__all__ = ["CHAT_OVER_PIPELINE", "IN_CHAINS", "REMOTE_CLASSES", "SAFE_CLASSES", "SYNC_ONLY_HAZARD"]

_CORE = "langchain_core.language_models"
_COMMUNITY = "langchain_community"
_HUGGINGFACE = "langchain_huggingface"

# They compute nothing, and tests of a chain are full of them.
SAFE_CLASSES = frozenset(
    {
        f"{_CORE}.fake.FakeListLLM",
        f"{_CORE}.fake.FakeStreamingListLLM",
        f"{_CORE}.fake_chat_models.FakeChatModel",
        f"{_CORE}.fake_chat_models.FakeListChatModel",
        f"{_CORE}.fake_chat_models.FakeMessagesListChatModel",
        f"{_CORE}.fake_chat_models.GenericFakeChatModel",
        f"{_CORE}.fake_chat_models.ParrotFakeChatModel",
        "langchain_core.embeddings.fake.DeterministicFakeEmbedding",
        "langchain_core.embeddings.fake.FakeEmbeddings",
    }
)
# A chat model over one of these is an HTTP client.
REMOTE_CLASSES = frozenset(
    {
        f"{_HUGGINGFACE}.llms.huggingface_endpoint.HuggingFaceEndpoint",
        f"{_COMMUNITY}.llms.huggingface_endpoint.HuggingFaceEndpoint",
        f"{_COMMUNITY}.llms.huggingface_hub.HuggingFaceHub",
        f"{_COMMUNITY}.llms.huggingface_text_gen_inference.HuggingFaceTextGenInference",
    }
)

CHAT_OVER_PIPELINE = "chat-over-pipeline"

IN_CHAINS: tuple[Hazard, ...] = (
    Hazard(
        kind="text-pipeline",
        title="callers share one tokenizer",
        classes=(
            f"{_HUGGINGFACE}.llms.huggingface_pipeline.HuggingFacePipeline",
            f"{_COMMUNITY}.llms.huggingface_pipeline.HuggingFacePipeline",
        ),
        breaks=(
            "One caller's truncation or padding is applied to another's prompt: a wrong answer "
            "without an error, or 'Already borrowed'. Streams leave threads that nobody ends, "
            "errors in them become a wait of 60 s, seeds are global, and a cancelled call computes "
            "on."
        ),
        since=(
            "every version; silently wrong since tokenizers 0.23.1, as seen with transformers 5.17 "
            "and 5.23, an error before"
        ),
        cure="One owner for each pipeline; batches instead of threads.",
        action=Action.BATCHED,
        threads=(
            "langchain-ai/langserve#409",
            "huggingface/tokenizers#537",
            "huggingface/tokenizers#2041",
            "huggingface/transformers#47085",
            "huggingface/transformers#47214",
            "huggingface/transformers#31963",
        ),
    ),
    Hazard(
        kind=CHAT_OVER_PIPELINE,
        title="no asynchronous calls, and one tokenizer for all",
        classes=(
            f"{_HUGGINGFACE}.chat_models.huggingface.ChatHuggingFace",
            f"{_COMMUNITY}.chat_models.huggingface.ChatHuggingFace",
        ),
        breaks=(
            "Over a local pipeline, ainvoke and abatch raise NotImplementedError, astream and "
            "astream_events AttributeError; a tool's answer is refused, and stop, temperature and "
            "bound tools never reach the model. The text of a control token in a message is one: "
            "a user can write a system's turn. Concurrent calls share the pipeline's hazards."
        ),
        since="every version up to langchain-huggingface 1.2.3",
        cure="Asynchronous methods and a chat template of its own, over one owner of the pipeline.",
        action=Action.BATCHED,
        threads=("langchain-ai/langchain#28647", "langchain-ai/langchain#35095"),
    ),
    Hazard(
        kind="sentence-embeddings",
        title="callers share one tokenizer",
        classes=(
            f"{_HUGGINGFACE}.embeddings.huggingface.HuggingFaceEmbeddings",
            f"{_COMMUNITY}.embeddings.huggingface.HuggingFaceEmbeddings",
            f"{_COMMUNITY}.embeddings.huggingface.HuggingFaceInstructEmbeddings",
            f"{_COMMUNITY}.embeddings.huggingface.HuggingFaceBgeEmbeddings",
        ),
        breaks=(
            "Calls whose truncation or padding differs cut one another's texts without an error, "
            "or raise 'Already borrowed'. Asynchronous calls take the event loop's threads."
        ),
        since="every version; silently wrong since tokenizers 0.23.1, an error before",
        cure="One owner for each model.",
        action=Action.EXCLUSIVE,
        threads=("huggingface/tokenizers#537", "weaviate/t2v-transformers-models#123"),
    ),
    Hazard(
        kind="llama-cpp",
        title="one context without a lock",
        classes=(
            f"{_COMMUNITY}.llms.llamacpp.LlamaCpp",
            f"{_COMMUNITY}.chat_models.llamacpp.ChatLlamaCpp",
            f"{_COMMUNITY}.embeddings.llamacpp.LlamaCppEmbeddings",
        ),
        breaks=(
            "Two callers interleave in one KV context: the process crashes or freezes, or their "
            "texts are mixed."
        ),
        since="every version; llama_cpp.Llama has no lock",
        cure="One call at a time; for more, serve the GGUF file with 'locktender model'.",
        action=Action.EXCLUSIVE,
        threads=(
            "langchain-ai/langserve#263",
            "abetlen/llama-cpp-python#471",
            "abetlen/llama-cpp-python#1062",
            "abetlen/llama-cpp-python#1995",
            "ggml-org/llama.cpp#2941",
            "stanfordnlp/dspy#9640",
        ),
    ),
    Hazard(
        kind="vllm",
        title="an engine for a single caller",
        classes=(f"{_COMMUNITY}.llms.vllm.VLLM",),
        breaks=(
            "vllm.LLM takes one caller: with two, its scheduler raises KeyError or fails an "
            "assertion. It does not stream."
        ),
        since="every version",
        cure="One call at a time; for more, run vLLM's own server and call it by HTTP.",
        action=Action.EXCLUSIVE,
        threads=(
            "langchain-ai/langserve#403",
            "vllm-project/vllm#1200",
            "vllm-project/vllm#1285",
            "vllm-project/vllm#4556",
            "vllm-project/vllm#7156",
        ),
    ),
    Hazard(
        kind="mlx",
        title="not safe in several threads",
        classes=(
            f"{_COMMUNITY}.llms.mlx_pipeline.MLXPipeline",
            f"{_COMMUNITY}.chat_models.mlx.ChatMLX",
        ),
        breaks=(
            "Calls run in several threads over one model and cache; MLX is made for one, and "
            "servers over it have answered one user with another's text."
        ),
        since="every version",
        cure="One call at a time, in one thread.",
        action=Action.EXCLUSIVE,
        threads=("ml-explore/mlx-lm#965", "cubist38/mlx-openai-server#269"),
    ),
    Hazard(
        kind="gpt4all",
        title="not safe in several threads",
        classes=(
            f"{_COMMUNITY}.llms.gpt4all.GPT4All",
            f"{_COMMUNITY}.embeddings.gpt4all.GPT4AllEmbeddings",
        ),
        breaks="Two callers share one native context that has no lock: a crash, or mixed texts.",
        since="every version; no longer maintained",
        cure="One call at a time; for more, serve the GGUF file with 'locktender model'.",
        action=Action.EXCLUSIVE,
    ),
    Hazard(
        kind="ctransformers",
        title="not safe in several threads",
        classes=(f"{_COMMUNITY}.llms.ctransformers.CTransformers",),
        breaks=(
            "Two callers share one native context that has no lock: a crash, or mixed texts. Its "
            "asynchronous method only moves the call to a thread."
        ),
        since="every version; no longer maintained",
        cure="One call at a time; for more, serve the GGUF file with 'locktender model'.",
        action=Action.EXCLUSIVE,
        threads=("marella/ctransformers#38",),
    ),
)

SYNC_ONLY_HAZARD = Hazard(
    kind="sync-only",
    title="no asynchronous methods of its own",
    classes=(
        f"{_CORE}.llms.BaseLLM",
        f"{_CORE}.chat_models.BaseChatModel",
        "langchain_core.embeddings.embeddings.Embeddings",
    ),
    breaks=(
        "LangChain calls it from the threads of the event loop, min(32, CPUs + 4) at once and "
        "without a lock; whether it bears that is not known. Its callers keep file and name "
        "look-ups waiting, and a cancelled call computes on."
    ),
    since="every version of langchain-core",
    cure="One owner for each object, or a class with asynchronous methods.",
    action=Action.EXCLUSIVE,
    threads=("langchain-ai/langserve#409",),
)
