"""What somebody would write who has one program and no callers: OpenVINO's pipeline and a loop.

The peer of `engine_overhead`, which runs it.  Each line of its input is a JSON list of questions;
for each it answers them all at once and prints seconds, tokens and texts as a JSON line.  It has
the settings of the service's engine: the preset ``exact``, the same blocks, no prefix cache.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import openvino_genai

from locktender.model.engines.openvino import MAX_BATCHED_TOKENS, PRESETS


def load(source: str, n_blocks: int) -> Any:
    """Return the pipeline."""
    config = openvino_genai.SchedulerConfig()
    config.num_kv_blocks = n_blocks
    config.max_num_batched_tokens = MAX_BATCHED_TOKENS
    config.max_num_seqs = 256
    config.dynamic_split_fuse = True
    config.enable_prefix_caching = False
    return openvino_genai.ContinuousBatchingPipeline(source, config, "CPU", dict(PRESETS["exact"]))


def answer(pipeline: Any, questions: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Return the ids of the answers, generated together and read step by step."""
    tokenizer = pipeline.get_tokenizer()
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.eos_token_id = pipeline.get_config().eos_token_id
    handles = []
    for number, question in enumerate(questions):
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
        ids = tokenizer.encode(prompt, add_special_tokens=False).input_ids
        handles.append(pipeline.add_request(number, ids, config))
    answers: list[list[int]] = [[] for _ in questions]
    while pipeline.has_non_finished_requests():
        pipeline.step()
        for number, handle in enumerate(handles):
            while handle.can_read():
                for output in handle.read().values():
                    answers[number] += output.generated_ids
    return answers


def main() -> None:
    """Answer each line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("n_blocks", type=int)
    parser.add_argument("max_tokens", type=int)
    arguments = parser.parse_args()
    pipeline = load(arguments.source, arguments.n_blocks)
    for line in sys.stdin:
        questions = json.loads(line)
        began_at = time.perf_counter()
        answers = answer(pipeline, questions, arguments.max_tokens)
        texts = pipeline.get_tokenizer().decode(answers)
        took_s = time.perf_counter() - began_at
        n_tokens = sum(map(len, answers))
        print(json.dumps({"took_s": took_s, "n_tokens": n_tokens, "texts": texts}), flush=True)


if __name__ == "__main__":
    main()
