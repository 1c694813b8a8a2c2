"""Heads fitted to few labelled features: logistic regression, and MixMatch with unlabelled ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.attacks.toolbox.attack_device import attack_device

__all__ = ["Probabilities", "logistic_head", "mixmatch_head"]

#: Class probabilities float64 [n, K] of features float32 [n, d].
Probabilities = NDArray[np.float64]

# Berthelot et al., MixMatch, NeurIPS 2019 and its defaults for few labels.
_TEMPERATURE, _MIX, _UNLABELLED_WEIGHT = 0.5, 0.75, 10.0
_BATCH, _STEPS, _HIDDEN, _JITTER = 64, 800, 128, 0.1


def logistic_head(
    features: NDArray[np.float32],
    classes: NDArray[np.int64],
    asked: tuple[NDArray[np.float32], ...],
    count: int,
) -> tuple[Probabilities, ...]:
    """Fit multinomial logistic regression (scikit-learn, C = 0.1) and answer each array asked."""
    from sklearn.linear_model import LogisticRegression

    centre, spread = _feature_scaling(features)
    # Strong shrinkage: one label a class leaves far more numbers than samples.
    model = LogisticRegression(C=0.1, max_iter=500)
    model.fit((features - centre) / spread, classes)
    answers = []
    for array in asked:
        full = np.zeros((len(array), count))
        if len(array):
            # Classes it saw no label of keep probability zero, at their own places.
            full[:, model.classes_] = model.predict_proba((array - centre) / spread)
        answers.append(full)
    return tuple(answers)


def mixmatch_head(
    features: NDArray[np.float32],
    classes: NDArray[np.int64],
    unlabelled: NDArray[np.float32],
    asked: tuple[NDArray[np.float32], ...],
    count: int,
    seed: int,
    scale: float,
) -> tuple[Probabilities, ...]:
    """Fit a two-layer head on labelled and unlabelled features and answer each array asked.

    MixMatch with Gaussian jitter and dropout in place of image augmentation, since features are
    given: guesses are averaged over two jitters, sharpened, and mixed with the labelled ones.
    """
    steps = max(20, int(_STEPS * scale))
    # Scaled by the unlabelled features: there are more of them, and it is their noise that counts.
    centre, spread = _feature_scaling(unlabelled)
    device = attack_device()
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)

    def tensor(array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(((array - centre) / spread).astype(np.float32)).to(device)

    x, free = tensor(features), tensor(unlabelled)
    target = functional.one_hot(torch.from_numpy(classes), count).float().to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(
            nn.Linear(x.shape[1], _HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(_HIDDEN, count)
        ).to(device)
        optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=1e-2)
        for step in range(steps):
            some = torch.randint(len(x), (_BATCH,), generator=generator).to(device)
            other = torch.randint(len(free), (_BATCH,), generator=generator).to(device)
            views = [_jitter_features(free[other], generator) for _ in range(2)]
            with torch.no_grad():
                guess = sum((functional.softmax(head(view), 1) for view in views), 0 * target[:1])
                guess = (guess / 2) ** (1 / _TEMPERATURE)
                guess = guess / guess.sum(dim=1, keepdim=True)
            every = torch.cat([_jitter_features(x[some], generator), *views])
            wanted = torch.cat([target[some], guess, guess])
            share = float(rng.beta(_MIX, _MIX))
            # MixMatch: the first of the two mixed stays the larger part, so its label stays the
            # truth.
            share = max(share, 1 - share)
            order = torch.randperm(len(every), generator=generator).to(device)
            logits = head(share * every + (1 - share) * every[order])
            wanted = share * wanted + (1 - share) * wanted[order]
            labelled = functional.cross_entropy(logits[:_BATCH], wanted[:_BATCH])
            # Squared distance, not cross-entropy: bounded, so that a wrong guess costs little.
            distance = (functional.softmax(logits[_BATCH:], 1) - wanted[_BATCH:]).square().mean()
            # At first the guesses of an untrained head are worth nothing, and would be fitted.
            ramp = min(1.0, step / (steps / 2))
            loss = labelled + _UNLABELLED_WEIGHT * ramp * distance
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    head.eval()
    answers = []
    with torch.no_grad():
        for array in asked:
            if len(array):
                made = functional.softmax(head(tensor(array)), 1).cpu().numpy().astype(np.float64)
            else:
                made = np.zeros((0, count))
            answers.append(made)
    return tuple(answers)


def _jitter_features(values: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(values.shape, generator=generator).to(values.device)
    return values + _JITTER * noise


def _feature_scaling(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and spread; one common spread where single columns hardly vary."""
    spread = features.std(axis=0)
    common = float(np.sqrt(np.mean(spread**2))) or 1.0
    return features.mean(axis=0), np.maximum(spread, 0.1 * common).astype(np.float32)
