"""A program may end while its model still writes."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import contextlib, sys, threading
from langchain_huggingface import HuggingFacePipeline
from locktender import guard

options = {"max_new_tokens": 2000, "min_new_tokens": 2000, "do_sample": False}
llm = HuggingFacePipeline.from_model_id(sys.argv[1], "text-generation", pipeline_kwargs=options)
guard(llm, timeout_s=60)
has_begun = threading.Semaphore(0)

def read():
    with contextlib.suppress(BaseException):
        for _ in llm.stream("Tell me about it. " * 40):
            has_begun.release()

for _ in range(6):
    threading.Thread(target=read, daemon=True).start()
has_begun.acquire(timeout=60)
print("begun", flush=True)
"""


def test_a_program_that_ends_in_the_middle_of_an_answer_ends_well(hf_folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(hf_folder)],
        capture_output=True,
        check=False,
        text=True,
        timeout=90,
    )
    assert "begun" in ended.stdout, ended.stderr
    assert (ended.returncode, "terminate" in ended.stderr) == (0, False), ended.stderr
