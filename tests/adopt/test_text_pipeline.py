"""The real model under its own pipeline, bare and run for jobs."""

import asyncio
import copy
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from harness.pipe import hook_engine, job_of
from locktender.adopt.call import Call
from locktender.adopt.generation_settings import KnownSettings
from locktender.adopt.job import Job
from locktender.adopt.text_batch import may_share, why_no_batch
from locktender.adopt.text_pipeline import Completion, TextSettings, TextTask
from locktender.adopt.weight_view import WeightView, why_no_view

PROMPT = "The lock keeper opened the gate and"
SHORT = {"do_sample": False, "max_new_tokens": 5}


@pytest.fixture(scope="module")
def pipe(hf_folder: Path) -> Iterator[Any]:
    torch, transformers = import_module("torch"), import_module("transformers")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more gain little here, and lose much beside other processes
    yield transformers.pipeline("text-generation", model=str(hf_folder), device="cpu")
    torch.set_num_threads(n_threads)


def test_the_text_is_the_bare_pipelines(pipe: Any) -> None:
    for parameters in (
        SHORT,
        SHORT | {"return_full_text": False},
        SHORT | {"truncation": True, "max_length": 3},
        SHORT | {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
        SHORT | {"skip_special_tokens": False, "batch_size": 2},
    ):
        assert _run(pipe, PROMPT, parameters).text == _bare(pipe, PROMPT, parameters)
    assert _run(pipe, "", SHORT).text == _bare(pipe, "", SHORT)


def test_a_task_says_what_a_call_of_the_pipeline_would(pipe: Any) -> None:
    whole = _run(pipe, PROMPT, SHORT)
    assert whole.text == PROMPT + whole.new_text
    assert (whole.prompt_tokens, whole.n_tokens) == (_n_tokens(pipe, PROMPT), 5)
    assert whole.finish_reason == "length"


def test_an_answer_that_ends_by_itself_counts_its_end_token(pipe: Any) -> None:
    prompt = _chat(pipe, "What is the capital of France?")
    answer = _run(pipe, prompt, {"do_sample": False, "max_new_tokens": 20})
    assert answer.finish_reason == "stop"
    assert answer.n_tokens == _n_tokens(pipe, answer.new_text) + 1
    exact = _run(pipe, prompt, {"do_sample": False, "max_new_tokens": answer.n_tokens})
    assert exact.finish_reason == "stop"


def test_the_pieces_are_those_of_the_pipelines_own_streamer(pipe: Any) -> None:
    parameters = {"do_sample": False, "max_new_tokens": 12}
    prompt = _chat(pipe, "List three colours.")
    pieces: list[str] = []
    answer = _run(pipe, prompt, parameters, pieces=pieces)
    assert pieces == _streamed(pipe, prompt, parameters)
    assert "".join(pieces) == answer.new_text
    assert len(pieces) > 3


def test_a_stop_string_ends_the_answer_and_is_not_in_it(pipe: Any) -> None:
    parameters = {"do_sample": False, "max_new_tokens": 8}
    whole = _run(pipe, PROMPT, parameters)
    middle = whole.new_text[len(whole.new_text) // 2 :]
    for stop in (middle[:1], middle[:9], middle[2:6], middle):
        pieces: list[str] = []
        answer = _run(pipe, PROMPT, parameters, stop=("never said", stop), pieces=pieces)
        kept = whole.new_text.partition(stop)[0]
        assert (answer.new_text, answer.text) == (kept, PROMPT + kept)
        assert "".join(pieces) == kept
        assert answer.finish_reason == "stop"


def test_no_token_is_generated_behind_a_stop_string(pipe: Any) -> None:
    parameters = {"do_sample": False, "max_new_tokens": 8}
    whole = _run(pipe, PROMPT, parameters)
    # The streamer holds a word back until the next one begins.
    word = whole.new_text.split()[2]
    answer = _run(pipe, PROMPT, parameters, stop=(word,))
    n_tokens = _n_tokens(pipe, PROMPT + whole.new_text[: whole.new_text.index(word) + len(word)])
    assert answer.n_tokens == n_tokens - answer.prompt_tokens


def test_a_stop_string_of_the_prompt_is_left_alone(pipe: Any) -> None:
    answer = _run(pipe, PROMPT, SHORT, stop=("lock keeper",))
    assert answer.text.startswith(PROMPT)
    assert answer.n_tokens == 5


def test_a_seed_repeats_an_answer_and_leaves_the_dice_of_the_process(pipe: Any) -> None:
    torch = import_module("torch")
    parameters = {"do_sample": True, "max_new_tokens": 5, "temperature": 1.5}
    before = torch.get_rng_state()
    alone = _run(pipe, PROMPT, parameters, seed=7)
    assert _run(pipe, PROMPT, parameters, seed=7) == alone
    assert _run(pipe, PROMPT, parameters, seed=8) != alone
    jobs = [job_of(pipe, _task(PROMPT, parameters, seed=seed)) for seed in (6, 7, 8)]
    jobs[0].work(Call(jobs))
    assert jobs[1].result() == alone
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_of_the_process_repeats_as_well(pipe: Any) -> None:
    torch = import_module("torch")
    answers = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        answers.append(_run(pipe, PROMPT, SHORT | {"do_sample": True, "temperature": 1.5}))
    assert answers[0] == answers[1] != answers[2]


def test_beams_give_the_bare_answer(pipe: Any) -> None:
    parameters = {"do_sample": False, "max_new_tokens": 6, "num_beams": 2}
    pieces: list[str] = []
    answer = _run(pipe, PROMPT, parameters, pieces=pieces)
    assert answer.text == _bare(pipe, PROMPT, parameters)
    assert "".join(pieces) == answer.new_text
    assert _run(pipe, PROMPT, parameters | {"num_return_sequences": 2}).text == answer.text


def test_the_callers_own_stopping_criteria_and_streamer_are_kept(pipe: Any) -> None:
    streamer = import_module("transformers").TextIteratorStreamer(
        pipe.tokenizer, skip_prompt=True, timeout=60
    )
    own = [lambda input_ids, scores, **_: input_ids.new_ones(1).bool()]  # noqa: ARG005 - its form
    parameters = SHORT | {"streamer": streamer, "stopping_criteria": own}
    answer = _run(pipe, PROMPT, parameters)
    assert (answer.n_tokens, answer.finish_reason) == (1, "stop")
    assert "".join(streamer) == answer.new_text
    assert job_of(pipe, _task(PROMPT, parameters)).key is None


@pytest.mark.parametrize("further", [{}, {"num_beams": 2}])
def test_a_cancelled_answer_ends_at_the_next_token(pipe: Any, further: dict[str, Any]) -> None:
    job = job_of(pipe, _task(PROMPT, {"do_sample": False, "max_new_tokens": 64} | further))
    n_after = 0

    def cancel_at(n_forwards: int) -> None:
        nonlocal n_after
        n_after += job.is_cancelled
        if n_forwards == 3:
            job.cancel()

    with _hooked(pipe, cancel_at):
        job.work(Call([job]))
    assert n_after == 0
    with pytest.raises(asyncio.CancelledError):
        job.result()


def test_a_job_that_nobody_waits_for_is_not_begun(pipe: Any) -> None:
    job = job_of(pipe, _task(PROMPT, SHORT))
    job.cancel()
    with _hooked(pipe, _fail_at(1)):
        job.work(Call([job]))
    assert job.has_ended


def test_a_models_error_reaches_its_caller_as_it_is(pipe: Any) -> None:
    job = job_of(pipe, _task(PROMPT, SHORT, wants_pieces=True))
    with _hooked(pipe, _fail_at(4)):
        job.work(Call([job]))
    with pytest.raises(ZeroDivisionError, match="the fourth"):
        job.result()
    wrong = job_of(pipe, _task(PROMPT, {"return_full_text": True, "return_tensors": True}))
    wrong.work(Call([wrong]))
    with pytest.raises(ValueError, match="mutually exclusive"):
        wrong.result()


def test_a_batch_gives_each_its_own_answer(pipe: Any) -> None:
    parameters = {"do_sample": False, "max_new_tokens": 10, "return_full_text": False}
    prompts = [
        _chat(pipe, "What is the capital of France?"),
        _chat(pipe, "Is water wet? Answer with yes or no."),
        _chat(pipe, "Hello"),
        PROMPT,
        "A list of canals, with their lengths in kilometres and the number of their locks: 1.",
        "Two",
    ]
    alone = [_run(pipe, prompt, parameters) for prompt in prompts]
    assert len({answer.n_tokens for answer in alone}) > 2
    jobs = [job_of(pipe, _task(prompt, parameters, wants_pieces=True)) for prompt in prompts]
    assert len({job.key for job in jobs} - {None}) == 1
    assert _count_forwards(pipe, jobs) == max(answer.n_tokens for answer in alone)
    assert [job.result() for job in jobs] == alone
    assert ["".join(job.take()) for job in jobs] == [answer.new_text for answer in alone]


def test_a_stop_string_ends_its_row_of_a_batch_and_no_other(pipe: Any) -> None:
    parameters = {"do_sample": False, "max_new_tokens": 7, "repetition_penalty": 1.2}
    first = _run(pipe, PROMPT, parameters)
    stop = (first.new_text[6:10],)
    prompts = [PROMPT, "Yesterday in the old town", "One two three four five six seven"]
    alone = [_run(pipe, prompt, parameters, stop=stop) for prompt in prompts]
    jobs = [job_of(pipe, _task(prompt, parameters, stop=stop)) for prompt in prompts]
    jobs[0].work(Call(jobs))
    assert [job.result() for job in jobs] == alone
    assert {answer.finish_reason for answer in alone} == {"stop", "length"}


def test_a_bad_prompt_fails_alone(pipe: Any) -> None:
    prompts: list[Any] = [PROMPT, 17, "The boat"]
    jobs = [job_of(pipe, _task(prompt, SHORT)) for prompt in prompts]
    jobs[0].work(Call(jobs))
    with pytest.raises(TypeError):
        jobs[1].result()
    for n in (0, 2):
        assert jobs[n].result() == _run(pipe, prompts[n], SHORT)


def test_a_cancelled_row_changes_nothing_for_the_others(pipe: Any) -> None:
    prompts = [PROMPT, "The boat went", "Water is"]
    alone = [_run(pipe, prompt, SHORT) for prompt in prompts]
    jobs = [job_of(pipe, _task(prompt, SHORT)) for prompt in prompts]
    with _hooked(pipe, lambda n: jobs[1].cancel() if n == 3 else None):
        jobs[0].work(Call(jobs))
    assert [jobs[n].result() for n in (0, 2)] == [alone[0], alone[2]]
    with pytest.raises(asyncio.CancelledError):
        jobs[1].result()


def test_a_batch_that_fails_is_run_again_one_by_one(pipe: Any) -> None:
    prompts = [PROMPT, "The boat went"]
    alone = [_run(pipe, prompt, SHORT) for prompt in prompts]
    jobs = [job_of(pipe, _task(prompt, SHORT, wants_pieces=True)) for prompt in prompts]
    with _hooked(pipe, _fail_at(4)):
        jobs[0].work(Call(jobs))
    assert [job.result() for job in jobs] == alone
    assert ["".join(job.take()) for job in jobs] == [answer.new_text for answer in alone]


@pytest.mark.parametrize(
    ("parameters", "has_key"),
    [
        (SHORT, True),
        ({"do_sample": False}, True),
        (SHORT | {"truncation": True, "max_length": 5}, True),
        ({"max_new_tokens": 8}, True),  # sampled, by the pipeline's default
        (SHORT | {"typical_p": 0.9}, False),
        (SHORT | {"num_beams": 2}, False),
        (SHORT | {"no_repeat_ngram_size": 2}, False),
        (SHORT | {"eos_token_id": [1, 2]}, False),
        (SHORT | {"max_new_tokens": None}, False),
    ],
)
def test_only_what_a_batch_cannot_change_has_a_key(
    pipe: Any, parameters: dict[str, Any], *, has_key: bool
) -> None:
    assert (job_of(pipe, _task(PROMPT, parameters)).key is not None) is has_key


def test_texts_of_one_pipeline_have_one_key_whatever_their_settings(pipe: Any) -> None:
    def key(stop: tuple[str, ...] = (), **further: Any) -> Hashable:
        return job_of(pipe, _task("any", SHORT | further, stop=stop)).key

    assert len({key(), key(("a",)), key(truncation=True), key(do_sample=True, top_k=3)}) == 1


def test_a_pipeline_that_cannot_batch_says_why(pipe: Any) -> None:
    assert why_no_batch(pipe) is None
    # Whose settings count, has changed with transformers 5.24.
    config = getattr(pipe, "generation_config", pipe.model.generation_config)
    with _changed(config, "no_repeat_ngram_size", 3):
        assert "no_repeat_ngram_size" in str(why_no_batch(pipe))
    with _changed(pipe, "_forward_params", {"num_beams": 2}):
        assert "num_beams" in str(why_no_batch(pipe))
    with _changed(pipe.model, "_is_stateful", True):
        assert "padding" in str(why_no_batch(pipe))
    with _changed(pipe.model, "peft_config", {}):
        assert "PEFT" in str(why_no_batch(pipe))
    with _changed(pipe.model, "hf_device_map", {"": "cpu"}):
        assert "device map" in str(why_no_batch(pipe))
    with _changed(pipe.model.config, "quantization_config", {"bits": 4}):
        assert "quantized" in str(why_no_batch(pipe))
    with _changed(pipe, "__class__", _subclass(pipe)):
        assert "task" in str(why_no_batch(pipe))


def test_half_precision_differs_from_the_bare_pipeline_by_rounding_only(hf_folder: Path) -> None:
    torch, pipeline = import_module("torch"), import_module("transformers").pipeline
    half = pipeline("text-generation", model=str(hf_folder), device="cpu", dtype="bfloat16")
    parameters = {"do_sample": False, "max_new_tokens": 6}
    prompts = [PROMPT, "The boat went down the river and", "In the year 1900 the city of"]
    jobs = [job_of(half, _task(prompt, parameters)) for prompt in prompts]
    assert {job.key for job in jobs} != {None}
    jobs[0].work(Call(jobs))
    for prompt, job in zip(prompts, jobs, strict=True):
        ours, bare = (
            half.tokenizer(text).input_ids
            for text in (job.result().text, _bare(half, prompt, parameters))
        )
        first = next(
            (n for n, pair in enumerate(zip(ours, bare, strict=False)) if pair[0] != pair[1]), None
        )
        if first is not None:
            with torch.no_grad():
                logits = half.model(torch.tensor([bare[:first]])).logits[0, -1].float()
            chances = logits.log_softmax(-1)
            assert abs(chances[ours[first]] - chances[bare[first]]) < 0.5


def test_a_pipeline_of_the_users_own_is_called_as_it_is(pipe: Any) -> None:
    with _changed(pipe, "__class__", _subclass(pipe)):
        pieces: list[str] = []
        answer = _run(pipe, PROMPT, SHORT, pieces=pieces, stop=("!",))
        job = job_of(pipe, _task(PROMPT, SHORT))
        with _hooked(pipe, lambda n: job.cancel() if n == 3 else None) as n_forwards:
            job.work(Call([job]))
    bare = _bare(pipe, PROMPT, SHORT)
    assert (answer.text, answer.n_tokens, answer.finish_reason) == (bare, 5, "length")
    assert pieces == [bare.removeprefix(PROMPT)] == [answer.new_text]
    assert job.has_ended
    assert n_forwards() == 3


def _task(
    prompt: Any,
    parameters: dict[str, Any],
    *,
    stop: tuple[str, ...] = (),
    seed: int | None = None,
    wants_pieces: bool = False,
) -> TextTask:
    settings = TextSettings(tuple(sorted(parameters.items())), stop, seed)
    return TextTask(prompt, settings, wants_pieces)


def _run(
    pipe: Any,
    prompt: str,
    parameters: dict[str, Any],
    *,
    stop: tuple[str, ...] = (),
    seed: int | None = None,
    pieces: list[str] | None = None,
) -> Completion:
    task = _task(prompt, parameters, stop=stop, seed=seed, wants_pieces=pieces is not None)
    job = job_of(pipe, task)
    job.work(Call([job]))
    if pieces is not None:
        pieces += job.take()
    return job.result()


def _bare(pipe: Any, prompt: str, parameters: dict[str, Any]) -> str:
    text: str = pipe(prompt, **parameters)[0]["generated_text"]
    return text


def _streamed(pipe: Any, prompt: str, parameters: dict[str, Any]) -> list[str]:
    """Return what the pipeline streams, without the empty pieces."""
    streamer = import_module("transformers").TextIteratorStreamer(
        pipe.tokenizer, skip_prompt=True, timeout=60, skip_special_tokens=True
    )
    thread = threading.Thread(
        target=pipe, args=[prompt], kwargs=parameters | {"streamer": streamer}
    )
    thread.start()
    pieces = [piece for piece in streamer if piece]
    thread.join()
    return pieces


def _chat(pipe: Any, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    text: str = pipe.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    return text


def _n_tokens(pipe: Any, text: str) -> int:
    return len(pipe.tokenizer(text).input_ids)


@contextmanager
def _hooked(pipe: Any, hook: Callable[[int], object]) -> Iterator[Callable[[], int]]:
    """Have `hook` called before each forward pass, with its number from 1; give their count."""
    n_forwards = 0

    def count(*_: Any) -> None:
        nonlocal n_forwards
        n_forwards += 1
        hook(n_forwards)

    undo = hook_engine(pipe.model, count)
    try:
        yield lambda: n_forwards
    finally:
        undo()


def _count_forwards(pipe: Any, jobs: list[Job[Completion]]) -> int:
    with _hooked(pipe, lambda _n: None) as n_forwards:
        jobs[0].work(Call(jobs))
    return n_forwards()


def _fail_at(number: int) -> Callable[[int], None]:
    def fail(n_forwards: int) -> None:
        if n_forwards == number:
            raise ZeroDivisionError("the fourth")

    return fail


def _subclass(pipe: Any) -> type:
    return type("Mine", (type(pipe),), {})


@contextmanager
def _changed(thing: Any, name: str, value: Any) -> Iterator[None]:
    """Have `thing` another attribute for a while."""
    is_own = name in vars(thing) or name == "__class__"
    before = getattr(thing, name, None)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if is_own:
            setattr(thing, name, before)
        else:
            delattr(thing, name)


def test_settings_that_are_known_are_forgotten_when_the_user_changes_one(pipe: Any) -> None:
    known = KnownSettings()
    before = known.of(pipe, {"max_new_tokens": 5})
    assert known.of(pipe, {"max_new_tokens": 5}) is before
    # Up to transformers 5.23 the pipeline has a whole one of its own, which goes before this.
    config = getattr(pipe, "generation_config", None) or pipe.model.generation_config
    with _changed(config, "top_k", 7):
        assert known.of(pipe, {"max_new_tokens": 5}).get("top_k") == 7
    assert known.of(pipe, {"max_new_tokens": 5}).get("top_k") == before.get("top_k")
    assert known.of(pipe, {"eos_token_id": [1]}).get("eos_token_id") == [1]


@pytest.mark.parametrize("name", ["_preprocess_params", "_forward_params", "_postprocess_params"])
def test_a_pipeline_that_keeps_its_settings_elsewhere_is_run_as_it_is(name: str, pipe: Any) -> None:
    other = copy.copy(pipe)
    delattr(other, name)
    assert "not known" in str(why_no_batch(other))
    assert not may_share(other, SHORT)
    assert job_of(other, _task(PROMPT, SHORT)).key is None


def test_a_module_that_keeps_its_weights_elsewhere_has_no_view(pipe: Any) -> None:
    network = import_module("torch").nn.Linear(2, 2)
    del vars(network)["_buffers"]
    assert "keeps its weights" in str(why_no_view(network))
    assert WeightView(network).model is None
    assert why_no_view(pipe.model) is None
