"""The most likely line: where in its source a bug can be seen that was found by watching the loop at work.

A line is named where exactly one line can be it. Which of two it is, no table of patterns can tell, and a wrong line
costs more time than none.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BACKWARD = r"\.backward\("
ZERO = r"\.zero_grad\b"
SCHEDULER_STEP = r"\w*sched\w*\.step\("
CLIP = r"clip_grad_(norm|value)_?\("
OPTIMIZER = r"\b(SGD|Adam|AdamW|NAdam|RAdam|RMSprop|Adagrad|Adadelta)\("
EVAL = r"\.eval\(\)|\.train\((mode=)?False\)"
WRITES = r"(mul|add|sub|div|clamp|copy|lerp|sign)_\("  # in place
OVER_BATCHES = r"load|batch|data|\bdl\b"


@dataclass(frozen=True)
class Pattern:
    """How a bug can be seen in its line.

    Attributes:
        text: regular expressions: the first that is found at all decides. Of something that is missing, the last is
            the line that it is missing at.
        loop: what the innermost loop around it must run over; None where there need be none.
    """

    text: tuple[str, ...]
    loop: str | None = None


def _pattern(*text: str, loop: str | None = None) -> Pattern:
    return Pattern(text, loop)


# A pattern is as narrow as to be the bug where the bug is known to be there. What a right loop has as well, such as
# `loss.item()` for the log, is in none.
PATTERNS: dict[str, Pattern] = {
    "zero-grad-missing": _pattern(ZERO, BACKWARD),
    "zero-grad-per-epoch": _pattern(ZERO),
    "zero-grad-after-backward": _pattern(ZERO),
    "zero-grad-per-micro-batch": _pattern(ZERO),
    "step-missing": _pattern(r"\bopt\w*\.step\b(?!\()", BACKWARD),
    "optimizer-misses-parameters": _pattern(OPTIMIZER),
    "optimizer-recreated": _pattern(OPTIMIZER + r"|type\((self\.)?opt\w*\)\(", r"\.state\.clear\("),
    "frozen-by-accident": _pattern(r"requires_grad\s*=\s*False|requires_grad_\(False\)"),
    "frozen-moves": _pattern(r"requires_grad\s*=\s*True|requires_grad_\((True)?\)"),
    "graph-detached": _pattern(r"(\.data\b|\.detach\(|\.item\(|tensor\().*requires_grad"),
    "kernel-no-op": _pattern(rf"\.data\.{WRITES}"),
    "gradient-differs": _pattern(rf"\.grad(\.data)?(\.{WRITES}|\s*[-+*/]?=(?!=|\s*None\b))"),
    "update-differs": _pattern(rf"\bp(aram(eter)?)?(\.data\.|\.){WRITES}"),
    "softmax-before-cross-entropy": _pattern(r"(?<!log_)\bsoftmax\(|\bSoftmax\("),
    "log-softmax-missing-for-nll": _pattern(r"nll_loss\(|NLLLoss\("),
    "loss-broadcast": _pattern(r"(?<!un)squeeze\("),
    "loss-sum": _pattern(r"reduction\s*=\s*[\"']sum[\"']"),
    "accumulation-not-divided": _pattern(BACKWARD),
    "half-precision-overflow": _pattern(r"\.half\(\)|float16"),
    "trains-in-eval-mode": _pattern(EVAL),
    "train-mode-not-restored": _pattern(EVAL),
    "train-mode-unfreezes": _pattern(r"\.train\((True)?\)"),
    "functional-dropout": _pattern(r"^(?!.*training).*\bdropout\w*\("),
    "best-is-last": _pattern(r"^(?!.*(deepcopy|clone|save)).*\bstate_dict\(\)"),
    "not-shuffled": _pattern(r"shuffle\s*=\s*False|SequentialSampler\(|\bDataLoader\((?!.*(shuffle|sampler)).*\)"),
    "no-batches": _pattern(r"drop_last\s*=\s*True"),
    "stops-after-first-batch": _pattern(r"^\s*break\b", loop=OVER_BATCHES),
    "normalised-differently": _pattern(r"/ *255"),
    "mixes-samples": _pattern(r"(softmax|mean|sum|std|var|normalize)\(.*dim\s*=\s*0"),
    "not-reproducible": _pattern(r"\.seed\(\)|seed\(.*(time|None|urandom)|urandom|SystemRandom|default_rng\(\)"),
    "mean-of-batch-means": _pattern(r"/ *len\((\w+\.)?\w*(loader|batches|dl)\w*\)"),
    "metric-wrong-n": _pattern(r"/ *(len\(|\w*batch_size)"),
    "scheduler-before-optimizer": _pattern(SCHEDULER_STEP),
    "scheduler-per-batch": _pattern(SCHEDULER_STEP),
    "scheduler-per-micro-batch": _pattern(SCHEDULER_STEP),
    "clip-after-step": _pattern(CLIP),
    "clip-per-micro-batch": _pattern(CLIP),
    "clip-before-unscale": _pattern(CLIP),
    "scaler-bypassed": _pattern(r"\bopt\w*\.step\("),
    "graph-leak": _pattern(r"\+= *loss\b(?!\.)|append\((loss|outputs?)\)"),
    "retain-graph": _pattern(r"retain_graph\s*=\s*True|create_graph\s*=\s*True"),
    "sync-every-step": _pattern(r"\.item\(\)|\.tolist\(|\.cpu\(|float\(\w*loss", loop=OVER_BATCHES),
    "loop-exits": _pattern(r"\b_?exit\(|\bSystemExit\b"),
    "model-replaced": _pattern(r"deepcopy\((self\.)?\w*(model|net)\w*\)"),
    "leaves-global-state": _pattern(r"torch\.(\w+\.)*(set_|use_deterministic)\w*\(|chdir\(|register_\w*hook\("),
    "leaves-threads": _pattern(r"\b(Thread|Process|Popen|PoolExecutor|Pool)\("),
}


@dataclass(frozen=True)
class SourceLine:
    """A line of a user's file.

    Attributes:
        file: its path.
        line: its number, from 1.
        text: what is written there, with its indentation.
    """

    file: str
    line: int
    text: str

    @property
    def place(self) -> str:
        """The file, as it is found from here, and the line: "my_train.py:12"."""
        path, here = Path(self.file), Path.cwd()
        return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{self.line}"


def likely_line(id: str, file: str | None, lines: tuple[int, int] | None) -> SourceLine | None:  # noqa: A002
    """Return the line in which a bug most likely is; None where that cannot be told.

    Args:
        id: of the bug.
        file: the loop's source.
        lines: the first and the last line of what trains.
    """
    if id not in PATTERNS or file is None or lines is None:
        return None
    try:
        with tokenize.open(file) as stream:
            source = stream.read()
        module, code = ast.parse(source), _code(source)
    except (OSError, SyntaxError, ValueError, tokenize.TokenError):
        return None  # the file is gone, or is no longer what was imported
    for numbers in _scopes(module, lines):
        for text in PATTERNS[id].text:
            found = [number for number in sorted(numbers) if re.search(text, code.get(number, ""))]
            if found:
                fits = len(found) == 1 and _is_in_loop(module, found[0], PATTERNS[id].loop, code)
                return SourceLine(file, found[0], source.splitlines()[found[0] - 1].rstrip()) if fits else None
    return None


def _scopes(module: ast.Module, lines: tuple[int, int]) -> Iterator[set[int]]:
    """Yield the lines to look at: of the loop, of the class that it is in, of what these call in the same file."""
    loop = set(range(lines[0], lines[1] + 1))
    yield loop
    around = [node for node in module.body if _numbers(node) & loop]
    yield set().union(*map(_numbers, around))
    defined = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    todo, seen = list(around), list(around)
    while todo:
        names = {node.id for node in ast.walk(todo.pop()) if isinstance(node, ast.Name)}
        new = [defined[name] for name in sorted(names & set(defined)) if defined[name] not in seen]
        todo += new
        seen += new
    yield set().union(*map(_numbers, seen))


def _numbers(node: ast.stmt) -> set[int]:
    decorators = getattr(node, "decorator_list", [])
    return set(range(min(n.lineno for n in (node, *decorators)), (node.end_lineno or node.lineno) + 1))


def _is_in_loop(module: ast.Module, number: int, over: str | None, code: dict[int, str]) -> bool:
    """Say whether the innermost loop around a line runs over what it should."""
    if over is None:
        return True
    loops = [node for node in ast.walk(module) if isinstance(node, ast.For | ast.While) and number in _numbers(node)]
    return bool(loops) and re.search(over, code[max(loop.lineno for loop in loops)]) is not None


def _code(source: str) -> dict[int, str]:
    """Return the lines by their numbers, without comments and docstrings."""
    lines = dict(enumerate(source.splitlines(), start=1))
    at_start = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (first, column), last = token.start, token.end[0]
        if token.type == tokenize.COMMENT:
            lines[first] = lines[first][:column]
        elif token.type == tokenize.STRING and at_start:
            for number in range(first, last + 1):
                lines[number] = ""
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            at_start = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    return lines
