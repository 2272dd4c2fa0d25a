"""Know the objects past LangChain that hold weights, and what breaks when several call one.

Each is named by its package and its class, as a user imports it; the module between them moves from
version to version, so it is not compared.  Subclasses are meant, too.  `hazards` asks these rows,
and `hazard_chain` has those of LangChain's own classes.
"""

from locktender.adopt.hazard import Action, Hazard

__all__ = ["LOADERS", "RAW", "TORCH_MODULE"]

TORCH_MODULE = "torch-module"

RAW: tuple[Hazard, ...] = (
    Hazard(
        kind="raw-pipeline",
        title="callers share one tokenizer",
        classes=("transformers.Pipeline",),
        breaks=(
            "One caller's truncation or padding is applied to another's prompt: a wrong answer "
            "without an error, or 'Already borrowed'. Each caller holds a cache of its own, until "
            "the memory is full, and seeds are global."
        ),
        since="every version; silently wrong since tokenizers 0.23.1, an error before",
        cure="One owner for each pipeline; in a HuggingFacePipeline texts are answered together.",
        action=Action.EXCLUSIVE,
        threads=("huggingface/tokenizers#537", "huggingface/transformers#47085"),
    ),
    Hazard(
        kind="raw-transformer",
        title="weights that each caller runs for itself",
        classes=("transformers.PreTrainedModel", "peft.PeftModel"),
        breaks=(
            "Every caller holds a cache and activations of its own, until the memory is full; the "
            "random state is one for all, and an adapter that one caller sets answers the others."
        ),
        since="every version",
        cure="One owner for each model.",
        action=Action.EXCLUSIVE,
        threads=("langchain-ai/langserve#409",),
    ),
    Hazard(
        kind="raw-sentences",
        title="callers share one tokenizer",
        classes=("sentence_transformers.SentenceTransformer", "sentence_transformers.CrossEncoder"),
        breaks=(
            "Calls whose truncation or padding differs cut one another's texts without an error, "
            "or raise 'Already borrowed'."
        ),
        since="every version; silently wrong since tokenizers 0.23.1, an error before",
        cure="One owner for each model.",
        action=Action.EXCLUSIVE,
        threads=("huggingface/tokenizers#537",),
    ),
    Hazard(
        kind="raw-context",
        title="one context without a lock",
        classes=("llama_cpp.Llama", "gpt4all.GPT4All", "ctransformers.LLM"),
        breaks=(
            "Two callers interleave in one native context: the process crashes or freezes, or "
            "their texts are mixed."
        ),
        since="every version",
        cure="One call at a time; for more, serve the GGUF file with 'locktender model'.",
        action=Action.EXCLUSIVE,
        threads=("abetlen/llama-cpp-python#471", "marella/ctransformers#38"),
    ),
    Hazard(
        kind="raw-vllm",
        title="an engine for a single caller",
        classes=("vllm.LLM",),
        breaks="With two callers its scheduler raises KeyError or fails an assertion.",
        since="every version",
        cure="One call at a time; for more, run vLLM's own server and call it by HTTP.",
        action=Action.EXCLUSIVE,
        threads=("vllm-project/vllm#1285",),
    ),
    Hazard(
        kind="raw-native",
        title="not known to bear several callers",
        classes=(
            "openvino_genai.LLMPipeline",
            "openvino_genai.VLMPipeline",
            "openvino_genai.WhisperPipeline",
            "openvino_genai.TextEmbeddingPipeline",
            "openvino_genai.TextRerankPipeline",
            "openvino.InferRequest",
            "mlx.nn.Module",
            "diffusers.DiffusionPipeline",
            "keras.Model",
        ),
        breaks="Its state is one for all callers: an error, a crash, or mixed answers.",
        since="every version",
        cure="One call at a time.",
        action=Action.NAMED,
        threads=("ml-explore/mlx-lm#965",),
    ),
    Hazard(
        kind=TORCH_MODULE,
        title="a network; whether it bears several callers is not known",
        classes=("torch.nn.Module",),
        breaks=(
            "Every caller computes at the same time in memory of its own; a network that keeps "
            "anything between calls mixes them up."
        ),
        since="every version",
        cure="One owner for each network.",
        action=Action.EXCLUSIVE,
    ),
)

# Functions, and classes that are never made themselves, which return such an object.
LOADERS = frozenset(
    {
        "torch.compile",
        "torch.load",
        "transformers.AutoModel",
        "transformers._BaseAutoModelClass",
        "transformers.pipeline",
    }
)
