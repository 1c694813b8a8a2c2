from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.safetensors_files import (
    load_safetensors,
    pack_safetensors,
    save_safetensors,
    unpack_safetensors,
    unpack_safetensors_texts,
)

TENSORS = {
    "0.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "0.bias": torch.tensor([1.5, -0.0, float("nan")], dtype=torch.bfloat16),
    "step": torch.tensor(7, dtype=torch.int64),
    "empty": torch.empty(0, 3),
}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].reshape(-1).view(torch.uint8).equal(other[name].reshape(-1).view(torch.uint8))
        for name in one
    )


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "segment-1.safetensors"
    save_safetensors(path, TENSORS, {"step": "7"})
    assert same(load_safetensors(path, within=tmp_path), TENSORS)
    assert unpack_safetensors_texts(path.read_bytes(), where="x") == {"step": "7"}
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    assert same(unpack_safetensors(pack_safetensors(TENSORS, {}), where="front"), TENSORS)


def test_views_and_shared_weights_are_saved_as_what_they_show(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    tensors = {"tied": base, "again": base, "transposed": base.T, "part": base[1:, ::2]}
    save_safetensors(tmp_path / "t", tensors)
    assert same(
        load_safetensors(tmp_path / "t", within=tmp_path),
        {name: value.detach().contiguous() for name, value in tensors.items()},
    )


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(RunFolderError, match=r"weights\.safetensors: the tensor file is missing"):
        load_safetensors(path, within=tmp_path)
    save_safetensors(path, TENSORS)
    content = path.read_bytes()
    for broken in (b"", content[:4], content[:-1], b"\xff" * 100, b"pickle"):
        path.write_bytes(broken)
        with pytest.raises(RunFolderError, match=r"weights\.safetensors: .*damaged"):
            load_safetensors(path, within=tmp_path)
    for broken in (b"", content[:4], b"\xff" * 100, b"\x02" + bytes(7) + b"[]"):
        with pytest.raises(RunFolderError, match=r"front: .*damaged"):
            unpack_safetensors_texts(broken, where="front")
    for broken in (b"", content[:-1], b"pickle"):
        with pytest.raises(RunFolderError, match=r"front: .*damaged"):
            unpack_safetensors(broken, where="front")


def test_a_failed_save_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "segment-1.safetensors"
    save_safetensors(path, TENSORS)

    def refuse(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("clicooper_hpc.runstore.atomic_files.fsync_path", refuse)
    with pytest.raises(EnvironmentUnfitError, match=r"segment-1.*No space left"):
        save_safetensors(path, {"other": torch.zeros(2)})
    assert same(load_safetensors(path, within=tmp_path), TENSORS)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    with pytest.raises(EnvironmentUnfitError, match="cannot be written"):
        save_safetensors(tmp_path / "gone" / "x", TENSORS)


def test_no_tensors_at_all_make_a_file_that_can_be_read() -> None:
    """A segment may have no weights; safetensors 0.8 wrote a broken header for it."""
    content = pack_safetensors({}, {})
    assert unpack_safetensors(content, where="here") == {}
    assert digest_tensors(content) == digest_tensors(content, prefix="weights/")
