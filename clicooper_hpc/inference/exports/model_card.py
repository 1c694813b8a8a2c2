"""The model card of an exported model: what it is, how private and how good, and who signed it."""

from __future__ import annotations

import math
import re

from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.printable import printable_lines
from clicooper_hpc.privacy.master_key import INSECURE
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES

__all__ = ["model_card"]

_HEAD = """\
---
library_name: pytorch
pipeline_tag: {task}
tags:
{tags}
---

# Model of run {run_id}

Trained by clicooper-hpc {version}, {created}: its owner kept the samples, and {trainers} trainer{s}
trained the network on what was released of them. Input: {input}. Output: probabilities
of {count} classes ({names}).

```python
import torch

model = torch.export.load("model.pt2").module()  # no other package is needed
probabilities = model(torch.rand(5, {sides}))
```

`model.safetensors` holds the same weights under unique names, `config.json` says what is computed
with them.
"""

_PRIVACY = """
## Privacy
{warnings}
What was promised about the samples in training:

{card}
{meaning}"""

_MEANING = """
The promise covers what was released for training.
"""

_NAMES_TOLD = """
A trainer of the run who holds this model can find out which of the secret names that the trainers
saw belong to which class: they are part of it.
"""

_INSECURE = """
**INSECURE: all secrets of the run follow from a seed in its job. Nothing is protected; such runs
are for tests alone.**
"""

_NO_PRIVACY = """
**NO PRIVACY: what left the owner carried no noise.**
"""

_CONDITIONAL = """
**CONDITIONAL: the front saw private samples without differential privacy, and its weights are part
of this model.**
"""

_PROOFS = """
## Proofs

The owner signed what the trainers delivered. Tensor digests of the segments, in order:

{segments}

Before the delivery was signed, the ledger had {size} entries and the Merkle root `{root}`. Digest
of the job: `{job}`. With the run folder, `clicooper verify` checks who trained what, in which
order.
"""


def model_card(model: LoadedModel, *, description: str | None) -> str:
    """Return the card as Markdown; ``description`` is what the owner says of the data."""
    run, classifier = model.run, model.classifier
    shape, names = classifier.input_shape, classifier.class_names
    image = len(shape) == 3
    kind = f"float32 [rows, {', '.join(map(str, shape))}]"
    if image:
        kind += ", images as (channels, height, width)"
    if model.input.stored_as == "uint8":
        kind += ", bytes divided by 255"
    trainers = len(run.ranks) - 1
    text = _HEAD.format(
        task="image-classification" if image else "tabular-classification",
        tags="\n".join(f"- {tag}" for tag in _tags(model)),
        run_id=run.attrs["run_id"],
        version=run.attrs["creator_version"],
        created=run.attrs["created"],
        trainers=trainers,
        s="s" * (trainers != 1),
        input=kind,
        count=len(names),
        names=", ".join(map(_as_code, names)),
        sides=", ".join(map(str, shape)),
    )
    text += f"\n## Data\n\n{description or 'Their owner does not describe them.'}\n"
    text += _accuracy(model) + _privacy(model)
    if model.delivery is None:
        return text + "\n## Proofs\n\nThe run was made without proofs.\n"
    return text + _PROOFS.format(
        segments="\n".join(f"{one.segment}. `{one.weights}`" for one in model.delivery.segments),
        size=model.delivery.ledger.size,
        root=model.delivery.ledger.root,
        job=run.attrs["job_digest"],
    )


def _tags(model: LoadedModel) -> list[str]:
    promised = model.job.privacy.enabled and not _warnings(model)
    return [*(["differential-privacy"] if promised else []), "split-learning"]


def _accuracy(model: LoadedModel) -> str:
    # As signed, where they were.
    results = model.run.results if model.delivery is None else model.delivery.results
    lines = [
        f"| {words} | {100 * _number(results[name]):.2f} % |\n"
        for name, (_, words) in RESULT_FIGURES.items()
        if name in results and name.endswith("_accuracy")
    ]
    words = RESULT_FIGURES["clean_accuracy"][1]
    samples = _number(results.get("clean_samples"))
    return (
        f"\n## Accuracy\n\n| figure | value |\n|---|---|\n{''.join(lines)}\n"
        f'"{words}": {samples:.15g} samples that never left the owner.\n'
    )


def _number(value: object) -> float:
    """Return a result as a number; NaN for what is none: nobody signs those of an unproved run."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def _privacy(model: LoadedModel) -> str:
    card = printable_lines(str(model.run.privacy.get("text", "")).strip())
    meaning = _MEANING if model.job.privacy.enabled else ""
    if model.job.labels.method != "none":
        meaning += _NAMES_TOLD
    return _PRIVACY.format(
        warnings="".join(_warnings(model)), card=_as_code_block(card), meaning=meaning
    )


def _warnings(model: LoadedModel) -> list[str]:
    """Return what makes the promise worth less or nothing."""
    privacy = model.job.privacy
    found = {
        _INSECURE: privacy.mode == INSECURE,
        _NO_PRIVACY: not privacy.enabled,
        _CONDITIONAL: model.front.origin.conditional,
    }
    return [words for words, holds in found.items() if holds]


def _as_code(text: str) -> str:
    """Return one line as code of Markdown: nothing in it is markup."""
    fence = "`" * (1 + _longest_run(text))
    # Readers take one space off on either side; without it, a backtick there joins the fence.
    space = " " if text.strip("` ") != text else ""
    return f"{fence}{space}{text}{space}{fence}"


def _as_code_block(text: str) -> str:
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
