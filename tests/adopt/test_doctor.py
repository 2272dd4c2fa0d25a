"""What the doctor says of a chain, and how its command ends."""

import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from rich.console import Console

from adopt.chains.models import Echo, chat_over, embeddings, pipeline, remote
from locktender.adopt.doctor import Diagnosis, examine, shown

CHAINS = Path(__file__).parent / "chains"
PROGRAM = str(Path(sys.executable).with_name("locktender"))
TESTS = CHAINS.parents[1]


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in CHAINS.glob("*.py") if path.stem != "models")
)
def test_there_is_a_finding_for_each_planted_model(name: str) -> None:
    module = import_module(f"adopt.chains.{name}")
    diagnosis = examine([("chain", module.chain)])
    assert len(diagnosis.findings) == len(module.PLANTED)
    assert diagnosis.is_complete
    assert sorted(each.class_name for each in diagnosis.findings) == sorted(
        type(model).__name__ for model in module.PLANTED
    )


def test_a_finding_says_what_and_where_and_what_is_going_to_be_done() -> None:
    first, second = examine([("chain", pipeline() | Echo())]).findings
    assert (first.path, first.class_name) == ("chain.steps[0]", "HuggingFacePipeline")
    assert first.hazard.kind == "text-pipeline"
    assert "token by token" in first.plan
    assert (second.path, second.class_name) == ("chain.steps[1]", "Echo")
    assert second.hazard.kind == "sync-only"
    assert "one call at a time" in second.plan


def test_a_pipeline_that_cannot_batch_is_exclusive_and_says_why() -> None:
    chain = pipeline() | embeddings().embed_query
    text, vectors = examine([("chain", chain)], why_no_batch=lambda _: "Weights are int8.").findings
    assert text.plan.endswith("in order. Batching is off: Weights are int8.")
    assert "one call at a time" in text.plan
    assert "Batching" not in vectors.plan  # of which nobody expects it


def test_what_nobody_guards_is_said_to_be_left() -> None:
    guarded, left = pipeline(), Echo()
    first, second = examine(
        [("chain", guarded | left)], is_guarded=lambda model: model is guarded
    ).findings
    assert first.plan.startswith("Gives it one owner")
    assert second.plan.startswith("Nothing: ")


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_shows_every_path_whole_and_every_sentence(width: int) -> None:
    inner = pipeline()
    diagnosis = examine([("chain", {"answer": chat_over(inner) | Echo(), "other": inner | Echo()})])
    lines = _drawn(diagnosis, width).splitlines()
    left, right = (_column(lines, n) for n in (1, 2))
    assert max(map(len, lines)) <= width
    for finding in diagnosis.findings:
        assert finding.path in left.replace(" ", "")
        assert finding.class_name in left
        for text in (finding.hazard.title, finding.hazard.breaks, finding.hazard.since):
            assert text in right
        for text in (finding.hazard.cure, finding.plan):
            assert text in right
    assert lines[-1] == "4 of 4 model objects are not safe for several callers"


def test_objects_with_one_hazard_share_a_row() -> None:
    drawn = _drawn(examine([("chain", [Echo(), Echo(), Echo()])]), 100)
    assert drawn.count("no asynchronous methods of its own") == 1
    assert all(f"chain[{n}]" in drawn for n in range(3))


def test_brackets_in_a_path_are_no_markup() -> None:
    assert "chain['[red]']" in _drawn(examine([("chain", {"[red]": Echo()})]), 100)


def test_a_safe_chain_is_said_to_be_safe() -> None:
    one = _drawn(examine([("chain", remote())]), 80)
    assert one == "no hazard found in 1 model object\n"


def test_where_no_model_is_found_the_doctor_is_not_content() -> None:
    diagnosis = examine([("chain", str)])
    assert not diagnosis.is_clean
    assert "If there is a model in it, it was not found" in _drawn(diagnosis, 80)


def test_a_search_that_met_its_bound_is_told_of() -> None:
    diagnosis = examine([("chain", [remote(), 3, [()] * 200_001])])
    assert (diagnosis.is_complete, diagnosis.is_clean) == (False, False)
    drawn = _drawn(diagnosis, 80).replace("\n", " ")
    assert "met its bound at chain[2]" in drawn
    assert "locktender.guard(model)" in drawn


def test_where_a_model_may_come_later_is_told_of() -> None:
    models: dict[str, Any] = {}
    diagnosis = examine([("chain", [remote(), RunnableLambda(lambda _: models["a"])])])
    assert (diagnosis.findings, diagnosis.is_complete, diagnosis.is_clean) == ((), True, False)
    assert diagnosis.open_places == ("chain[1].func:models is empty so far",)
    assert "chain[1].func:models is empty so far" in _drawn(diagnosis, 200)


def test_what_cannot_be_guarded_is_told_of() -> None:
    class LLMPipeline:
        """Looks like the native one."""

        __module__ = "openvino_genai.py_openvino_genai"

    (finding,) = examine([("chain", [LLMPipeline()])], is_guarded=lambda _: False).findings
    assert (finding.path, finding.hazard.kind) == ("chain[0]", "raw-native")
    assert finding.plan.startswith("Nothing: its class cannot be put behind a gate.")


@pytest.mark.parametrize(("flags", "code"), [([], 0), (["--strict"], 1)])
def test_the_command_shows_what_it_finds_and_fails_only_if_it_is_to(
    flags: list[str], code: int
) -> None:
    ended = _doctor(f"{CHAINS / 'sequence.py'}:chain", *flags)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert "HuggingFacePipeline" in ended.stdout
    assert "/chain.steps[1].bound" in ended.stdout
    assert ended.stdout.endswith("2 of 4 model objects are not safe for several callers\n")


def test_the_command_finds_nothing_in_a_safe_chain(tmp_path: Path) -> None:
    (tmp_path / "safe.py").write_text(
        "from langchain_core.language_models import FakeListLLM\n"
        "chain = FakeListLLM(responses=['a']) | str\n"
    )
    ended = _doctor(f"{tmp_path / 'safe.py'}:chain", "--strict")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "no hazard found in 1 model object\n"


def test_a_target_that_is_not_there_is_one_sentence_and_code_2(tmp_path: Path) -> None:
    (tmp_path / "empty.py").touch()
    ended = _doctor(f"{tmp_path / 'empty.py'}:nothing", "--strict")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("locktender: There is no 'nothing' in ")


@pytest.mark.parametrize(
    ("chain", "code", "words"),
    [
        ("RunnableLambda(lambda text: text)", 1, "it was not found"),
        (
            "FakeListLLM(responses=['a']) | RunnableLambda(lambda _: late['a'])",
            1,
            "is empty so far",
        ),
        ("FakeListLLM(responses=['a']) | RunnableLambda(lambda _: many)", 1, "its bound"),
        ("FakeListLLM(responses=['a']) | RunnableLambda(lambda text: text)", 0, "no hazard found"),
    ],
)
def test_the_command_is_content_only_if_all_is_known_to_be_safe(
    tmp_path: Path, chain: str, code: int, words: str
) -> None:
    (tmp_path / "app.py").write_text(
        "from langchain_core.language_models import FakeListLLM\n"
        "from langchain_core.runnables import RunnableLambda\n"
        "many = [()] * 200_001\n"
        f"late = {{}}\nchain = {chain}\n"
    )
    strict = _doctor(f"{tmp_path / 'app.py'}:chain", "--strict")
    assert (strict.returncode, words in strict.stdout.replace("\n", " ")) == (code, True)


def _drawn(diagnosis: Diagnosis, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(shown(diagnosis), highlight=False)
    drawn: Any = console.file
    return str(drawn.getvalue())


def _column(lines: list[str], n: int) -> str:
    cells = (line.split("│")[n].strip() for line in lines if line.startswith("│"))
    return " ".join(cells)


def _doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "doctor", *arguments],
        capture_output=True,
        check=False,
        env={"COLUMNS": "100", "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}"},
        text=True,
        timeout=60,
    )
