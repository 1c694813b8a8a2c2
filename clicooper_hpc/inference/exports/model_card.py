"""The model card of an exported model: what it is, how private and how good, and who signed it."""

from __future__ import annotations

from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES

__all__ = ["model_card"]

_HEAD = """\
---
library_name: pytorch
pipeline_tag: {task}
tags:
- differential-privacy
- split-learning
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

What was promised about the samples in training:

```
{card}
```

The promise covers what was released for training. A trainer of the run who holds this model can
find out which of the secret names that the trainers saw belong to which class: they are part of
it.{note}
"""

_CONDITIONAL = """

**The front saw private samples without differential privacy, and its weights are part of this
model.**"""

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
        run_id=run.attrs["run_id"],
        version=run.attrs["creator_version"],
        created=run.attrs["created"],
        trainers=trainers,
        s="s" * (trainers != 1),
        input=kind,
        count=len(names),
        names=", ".join(names),
        sides=", ".join(map(str, shape)),
    )
    text += f"\n## Data\n\n{description or 'Their owner does not describe them.'}\n"
    # As signed, where they were.
    results = run.results if model.delivery is None else model.delivery.results
    text += "\n## Accuracy\n\n| figure | value |\n|---|---|\n" + "".join(
        f"| {RESULT_FIGURES[name][1]} | {100 * float(value):.2f} % |\n"
        for name, value in results.items()
        if name in RESULT_FIGURES and name.endswith("_accuracy")
    )
    samples = int(float(results["clean_samples"]))
    text += f"\nThe first on {samples} held-out samples that never left the owner.\n"
    text += _PRIVACY.format(
        card=str(run.privacy.get("text", "")).strip(),
        note=_CONDITIONAL if model.front.origin.conditional else "",
    )
    if model.delivery is None:
        return text + "\n## Proofs\n\nThe run was made without proofs.\n"
    return text + _PROOFS.format(
        segments="\n".join(f"{one.segment}. `{one.weights}`" for one in model.delivery.segments),
        size=model.delivery.ledger.size,
        root=model.delivery.ledger.root,
        job=run.attrs["job_digest"],
    )
