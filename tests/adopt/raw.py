"""Small random models of Hugging Face, and the places in which they are called past LangChain."""

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from langchain_core.language_models import LLM
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_huggingface import HuggingFaceEmbeddings, HuggingFacePipeline
from tokenizers import Tokenizer, models, pre_tokenizers

from adopt.probe import Probe

__all__ = ["ENCODERS", "LLAMAS", "encoder_folder", "llama", "probed", "tokenizer"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
transformers: Any = import_module("transformers")  # whose types are half a truth
logging: Any = import_module("transformers.utils.logging")
_SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}


def tokenizer() -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_LETTERS]
    split = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    split.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=split, sep_token="[SEP]", mask_token="[MASK]", **special
    )


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=64, num_attention_heads=2, pad_token_id=0, eos_token_id=3, **_SIZE
    )
    return transformers.LlamaForCausalLM(config).eval()


def encoder_folder(folder: Path) -> Path:
    """A folder with a model that tells how well two texts go together, and that embeds one."""
    config = transformers.BertConfig(vocab_size=64, num_attention_heads=2, num_labels=1, **_SIZE)
    logging.disable_progress_bar()
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def probed(network: Any) -> Probe:
    """Have a network count who is in it."""
    probe = Probe()

    def enter(*_: Any) -> None:
        probe.__enter__()

    def leave(*_: Any) -> None:
        probe.__exit__()

    network.register_forward_pre_hook(enter)
    network.register_forward_hook(leave, always_call=True)
    return probe


def _pipe(model: Any) -> Any:
    logging.set_verbosity_error()
    return transformers.pipeline(
        "text-generation", model=model, tokenizer=tokenizer(), max_new_tokens=2, do_sample=False
    )


def _text(pipe: Any, text: str) -> str:
    return str(pipe(text)[0]["generated_text"])


class _OverPipeline(LLM):
    held: Any

    @property
    def _llm_type(self) -> str:
        return "over-pipeline"

    def _call(self, prompt: str, *_arguments: Any, **_options: Any) -> str:
        return _text(self.held, prompt)


def raw_pipeline(model: Any) -> Any:
    pipe = _pipe(model)
    return RunnableLambda(lambda text: _text(pipe, text))


def pipeline_of_a_tool(model: Any) -> Any:
    pipe = _pipe(model)

    @tool
    def ask(text: str) -> str:
        """Ask."""
        return _text(pipe, text)

    return RunnableLambda(lambda text: ask.invoke({"text": text}))


def pipeline_of_an_object(model: Any) -> Any:
    class Service:
        def __init__(self) -> None:
            self.pipe = _pipe(model)

        def answer(self, text: str) -> str:
            return _text(self.pipe, text)

    return RunnableLambda(Service().answer)


def two_pipelines_over_one_model(model: Any) -> Any:
    one, two = _pipe(model), _pipe(model)
    return RunnableParallel(
        a=RunnableLambda(lambda text: _text(one, text)),
        b=RunnableLambda(lambda text: _text(two, text)),
    )


def custom_model_over_a_pipeline(model: Any) -> Any:
    return _OverPipeline(held=_pipe(model))


def two_custom_models_over_one_pipeline(model: Any) -> Any:
    pipe = _pipe(model)
    return RunnableParallel(a=_OverPipeline(held=pipe), b=_OverPipeline(held=pipe))


def pipeline_beside_its_wrapper(model: Any) -> Any:
    pipe = _pipe(model)
    return RunnableParallel(
        a=HuggingFacePipeline(pipeline=pipe), b=RunnableLambda(lambda text: _text(pipe, text))
    )


def two_wrappers_over_one_pipeline(model: Any) -> Any:
    pipe = _pipe(model)
    return RunnableParallel(
        a=HuggingFacePipeline(pipeline=pipe), b=HuggingFacePipeline(pipeline=pipe)
    )


def generate(model: Any) -> Any:
    words = tokenizer()

    def answer(text: str) -> int:
        batch = words(text, return_tensors="pt")
        return int(model.generate(batch["input_ids"], max_new_tokens=2).shape[1])

    return RunnableLambda(answer)


def forward(model: Any) -> Any:
    return RunnableLambda(
        lambda _: model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.shape
    )


def generate_beside_a_wrapper(model: Any) -> Any:
    return RunnableParallel(a=HuggingFacePipeline(pipeline=_pipe(model)), b=generate(model))


def sentence_transformer(folder: Path) -> tuple[Any, Any]:
    encoder = _encoder(folder)
    return RunnableLambda(lambda text: encoder.encode(text).shape), encoder[0]


def embeddings_beside_their_encoder(folder: Path) -> tuple[Any, Any]:
    embeddings = HuggingFaceEmbeddings.model_construct(
        model_name="tiny", encode_kwargs={}, query_encode_kwargs={}, multi_process=False
    )
    encoder = embeddings._client = _encoder(folder)  # noqa: SLF001 - where the constructor puts it
    chain = RunnableParallel(
        a=RunnableLambda(lambda text: embeddings.embed_query(text)),
        b=RunnableLambda(lambda text: encoder.encode(text).shape),
    )
    return chain, encoder[0]


def reranker(folder: Path) -> tuple[Any, Any]:
    from langchain_classic.retrievers.document_compressors import (  # noqa: PLC0415 - it takes seconds
        CrossEncoderReranker,
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langchain-community says at once that it is old
        from langchain_community.cross_encoders import (  # noqa: PLC0415 - as this
            HuggingFaceCrossEncoder,
        )
    from langchain_core.documents import Document  # noqa: PLC0415 - as these
    from torch.nn import Sequential  # noqa: PLC0415 - as these

    model = HuggingFaceCrossEncoder(model_name=str(folder))
    rank = CrossEncoderReranker(model=model, top_n=1)
    documents = [Document("abc"), Document("def")]
    # Up to sentence-transformers 5 it calls the model that it holds, and not itself.
    network = model.client if isinstance(model.client, Sequential) else model.client.model
    return RunnableLambda(lambda text: len(rank.compress_documents(documents, text))), network


def _encoder(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - it takes seconds

    return SentenceTransformer(str(folder))


_Rows = list[Callable[[Any], Any]]
LLAMAS: _Rows = [
    raw_pipeline,
    pipeline_of_a_tool,
    pipeline_of_an_object,
    two_pipelines_over_one_model,
    custom_model_over_a_pipeline,
    two_custom_models_over_one_pipeline,
    pipeline_beside_its_wrapper,
    two_wrappers_over_one_pipeline,
    generate,
    forward,
    generate_beside_a_wrapper,
]
ENCODERS: _Rows = [sentence_transformer, embeddings_beside_their_encoder, reranker]
