"""Modules of any form, traced and cut: what they compute stays what it was, cut anywhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.segmentable import check_row_independence, check_segmentable
from clicooper_hpc.models.traced.traced_layers import traced_layers

ROWS = 5
WIDTH = 6


class Skip(nn.Module):
    """Two skips over every cut between; in place, with one activation used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 8), nn.Linear(8, 8)
        self.third, self.last = nn.Linear(8, 8), nn.Linear(8 + WIDTH, 3)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, rows: Tensor) -> Any:
        inner = self.activation(self.first(rows.view(rows.size(0), -1)))
        outer = self.activation(self.second(inner))
        outer = self.third(outer)
        outer += inner
        return self.last(torch.cat([self.activation(outer), rows], 1))


class WritesAndReads(nn.Module):
    """Reads a tensor again after it was written into."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 4), nn.Linear(4, 3)

    def forward(self, rows: Tensor) -> Any:
        inner = self.first(rows)
        inner.mul_(2.0)
        return self.last(functional.relu(inner, inplace=True) + inner)


class Windows(nn.Module):
    """Puts parts of rows on the first axis, so that three times the rows cross a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(12, 3)

    def forward(self, rows: Tensor) -> Any:
        count, width = rows.shape
        parts = self.first(rows.reshape(count * 3, width // 3))
        return self.last(self.second(torch.tanh(parts)).reshape(count, -1))


class Places(nn.Module):
    """A parameter and a buffer that meet the rows by arithmetic, and a size asked of another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 4), nn.Linear(4, 3)
        self.place = nn.Parameter(torch.randn(1, 3, 4))
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, rows: Tensor) -> Any:
        tokens = self.first(rows.reshape(-1, 3, 2))
        places = (self.place * self.scale[None, :, None]).expand(tokens.shape[0], -1, -1)
        zeros = rows.new_zeros(tokens.shape[0], 4, device=rows.device)
        return self.last((tokens + places).mean(1) + zeros)


class Tied(nn.Module):
    """Uses one layer twice, with another one between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Linear(WIDTH, 8), nn.Linear(8, 8)
        self.between, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, rows: Tensor) -> Any:
        return self.last(self.twice(self.between(torch.relu(self.twice(self.first(rows))))))


class Attention(nn.Module):
    """A layer of torch that takes three tensors and gives two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(2, 4), nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(12, 3)

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Any:
        tokens = self.norm(self.first(rows.reshape(-1, 3, 2)))
        mixed, _ = self.attention(tokens, tokens, tokens, attn_mask=mask, need_weights=False)
        return self.last((tokens + mixed).flatten(1))


#: Layers with single tensors between them, and with any number.
FORMS = {
    Skip: (2, 4),
    WritesAndReads: (2, 2),
    Windows: (3, 3),
    Places: (2, 3),
    Tied: (3, 3),
    Attention: (4, 4),
}


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_layers_compute_what_the_module_computes(
    form: Callable[[], nn.Module], several: bool
) -> None:
    torch.manual_seed(3)
    module = form()
    rows, weight = torch.randn(ROWS, WIDTH), torch.randn(ROWS, 3)
    plain = copy.deepcopy(module)
    expected = plain(rows)
    (expected * weight).sum().backward()
    layers = traced_layers(module, (WIDTH,), several=several, where="here")
    assert len(layers) == FORMS[form][several]  # type: ignore[index]
    check_segmentable(layers)
    check_row_independence(layers, (WIDTH,))
    result = layers(rows)
    (result * weight).sum().backward()
    torch.testing.assert_close(result, expected)
    # Numbers of rows other than those it was traced with.
    torch.testing.assert_close(layers(rows[:1]), expected[:1])
    mine = dict(module.named_parameters())
    assert {id(one) for one in mine.values()} == {id(one) for one in layers.parameters()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(mine[name].grad, parameter.grad)


@pytest.mark.parametrize("form", FORMS)
def test_one_contiguous_tensor_crosses_every_cut(form: Callable[[], nn.Module]) -> None:
    layers = traced_layers(form(), (WIDTH,), several=True, where="here")
    rows = torch.randn(ROWS, WIDTH)
    for layer in layers:
        rows = layer(rows)
        assert isinstance(rows, Tensor)
        assert rows.is_contiguous()
        assert len(rows) == ROWS


def test_a_weight_used_twice_stays_in_one_layer() -> None:
    layers = traced_layers(Tied(), (WIDTH,), several=True, where="here")
    names = [[name for name, _ in layer.named_parameters()] for layer in layers]
    assert names[1] == ["twice.weight", "twice.bias", "between.weight", "between.bias"]


class Deep(nn.Module):
    """More steps one behind another than Python calls may be nested."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 4), nn.Linear(4, 3)

    def forward(self, rows: Tensor) -> Any:
        inner = self.first(rows)
        for _ in range(2000):
            inner = torch.sin(inner)
        return self.last(inner)


def test_a_deep_network_is_cut() -> None:
    assert len(traced_layers(Deep(), (WIDTH,), several=True, where="here")) == 2


class Drops(nn.Module):
    """Asks for its mode in a call, and has a layer inside that knows its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(WIDTH, 400), nn.Linear(400, 3), nn.Dropout(0.5)

    def forward(self, rows: Tensor) -> Any:
        inner = functional.dropout(self.first(rows), 0.5, self.training)
        return self.last(self.drop(inner))


def test_dropout_follows_the_mode_after_tracing() -> None:
    module = Drops()
    layers = traced_layers(module, (WIDTH,), several=False, where="here")
    rows = torch.randn(2, WIDTH)
    assert not torch.equal(layers(rows), layers(rows))
    layers.eval()
    assert torch.equal(layers(rows), layers(rows))
    inner = layers.train()[0](rows)
    # Half is dropped once by the call, and half of the rest by the layer.
    assert 0.65 < (inner == 0).float().mean() < 0.85


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(WIDTH, 3)

    def forward(self, rows: Tensor) -> Any:
        return self.only(rows if rows.sum() > 0 else -rows)


class TwoModes(Branches):
    def forward(self, rows: Tensor) -> Any:
        return self.only(rows * 2 if self.training else rows)


class TwoInputs(nn.Module):
    def forward(self, rows: Tensor, others: Tensor) -> Any:
        return rows + others


class GivesDict(Branches):
    def forward(self, rows: Tensor) -> Any:
        return {"logits": self.only(rows)}


class CountsSquares(Branches):
    def forward(self, rows: Tensor) -> Any:
        return self.only(rows) * (rows.shape[0] ** 2)


class Freezes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.only, self.frozen = nn.Linear(4, 3), nn.Linear(WIDTH, 4)

    def forward(self, rows: Tensor) -> Any:
        with torch.no_grad():
            inner = self.frozen(rows)
        return self.only(inner)


class AnyInputs(Branches):
    def forward(self, *rows: Tensor) -> Any:
        return self.only(rows[0])


class Ends(Branches):
    def forward(self, rows: Tensor) -> Any:
        raise SystemExit(0)


class Remembers(Branches):
    seen = 0.0

    def forward(self, rows: Tensor) -> Any:
        self.seen += 1.0
        return self.only(rows) + self.seen


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Branches, "cannot be traced"),
        (TwoModes, "other things in training than in evaluation"),
        (TwoInputs, "takes rows, others, not one tensor"),
        (GivesDict, "gives a dict"),
        (CountsSquares, "neither a fixed number nor a multiple of the rows"),
        (Remembers, "in training and"),
        (Freezes, "would train frozen.weight otherwise"),
        (AnyInputs, "takes *rows, not one tensor"),
        (Ends, "cannot be traced: SystemExit"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_line(
    form: Callable[[], nn.Module], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        traced_layers(form(), (WIDTH,), several=True, where="the network")
    line = caught.value.line()
    assert words in line
    assert line.startswith("the network")
    assert "\n" not in line


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match=r"fails on samples of shape \[7\]"):
        traced_layers(Skip(), (7,), several=True, where="the network")


class Prints(Branches):
    def forward(self, rows: Tensor) -> Any:
        print("own words")
        return self.only(rows)


def test_what_a_forward_prints_does_not_go_among_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    traced_layers(Prints(), (WIDTH,), several=False, where="here")
    said = capsys.readouterr()
    assert said.out == ""
    assert "own words" in said.err
