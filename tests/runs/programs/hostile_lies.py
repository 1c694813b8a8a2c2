"""`LIES`: what a hostile rank does, by name; each is called once with the world of that rank.

Messages are changed where they are handed to MPI, behind the digests of their own rank; numbers
where a rank looks at them before it digests and sends; byte strings where they begin to be sent.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clicooper_hpc.transport.header import HEADER_BYTES
from clicooper_hpc.transport.message_kind import Kind

__all__ = ["LIES", "peak_kb", "undo"]

Lie = Callable[[Any], None]
LIES: dict[str, Lie] = {}
KEPT: list[Any] = []  # MPI reads buffers after the call
HONEST: list[tuple[Any, str, Any]] = []
HUGE = 2**62
#: Training steps of the job of the table; see `hostile_runs`.
LAST_STEP = 12


def peak_kb() -> int:
    """Return the most memory this process has held, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def is_due(number: int, step: int) -> bool:
    """Whether ``number`` is ``step`` or later; validation steps count on behind the last one."""
    return number >= step and (number < LAST_STEP) == (step < LAST_STEP)


def replace_call(holder: Any, name: str, lie: Any) -> None:
    """Put ``lie`` in the place of an attribute, until `undo`."""
    HONEST.append((holder, name, getattr(holder, name)))
    setattr(holder, name, lie)


def undo() -> None:
    """Be honest again."""
    while HONEST:
        setattr(*HONEST.pop())


def on_wire(kind: str, step: int, change: Callable[..., Any], *, stream: bool = False) -> Lie:
    """Let ``change(link, raw, send)`` stand for one message of ``kind`` from ``step`` on."""

    def arm(world: Any) -> None:
        link_class: Any = import_module("clicooper_hpc.transport.link").Link
        honest = link_class.isend
        done = False

        def isend(link: Any, raw: Any) -> Any:
            nonlocal done
            code, number = int(raw[5]), int(raw[8:16].view(np.int64)[0])
            chunk = bool(raw[52:60].any())
            if done or code != Kind[kind] or not is_due(number, step) or chunk != stream:
                return honest(link, raw)
            done = True

            def send(changed: Any, *, to: Any = link) -> Any:
                changed = np.ascontiguousarray(changed)
                KEPT.append(changed)
                return honest(to, changed)

            return change(link, raw.copy(), send)

        replace_call(link_class, "isend", isend)

    return arm


def written(place: int, value: int, size: int) -> Callable[..., Any]:
    """Write ``value`` into the header."""

    def change(link: Any, raw: Any, send: Any) -> Any:
        raw[place : place + size] = np.frombuffer(
            value.to_bytes(size, "little", signed=value < 0), np.uint8
        )
        return send(raw)

    return change


def resized(size: int) -> Callable[..., Any]:
    """Send so many bytes more (or less) than the header says."""

    def change(link: Any, raw: Any, send: Any) -> Any:
        if size < 0:
            return send(raw[:size])
        return send(np.concatenate([raw, np.zeros(size, np.uint8)]))

    return change


def only(size: int) -> Callable[..., Any]:
    return lambda link, raw, send: send(raw[:size])


def dropped(link: Any, raw: Any, send: Any) -> Any:
    return sys.modules["mpi4py.MPI"].REQUEST_NULL


def doubled(link: Any, raw: Any, send: Any) -> Any:
    send(raw)
    return send(raw.copy())


def flooded(link: Any, raw: Any, send: Any) -> Any:
    for _ in range(2000):
        send(raw)
    return send(raw.copy())


def elsewhere(**where: int) -> Callable[..., Any]:
    """Send it to another rank or tag, and not where it belongs."""
    from dataclasses import replace

    return lambda link, raw, send: send(raw, to=replace(link, **where))


def flipped(link: Any, raw: Any, send: Any) -> Any:
    raw[HEADER_BYTES] ^= 1
    return send(raw)


def in_place_of_next(kind: str, step: int) -> Lie:
    """Send a message behind the one that follows it."""

    def arm(world: Any) -> None:
        link_class: Any = import_module("clicooper_hpc.transport.link").Link
        honest = link_class.isend
        held: list[Any] = []
        done = False

        def isend(link: Any, raw: Any) -> Any:
            nonlocal done
            code, number = int(raw[5]), int(raw[8:16].view(np.int64)[0])
            if done or code != Kind[kind] or not is_due(number, step):
                return honest(link, raw)
            if not held:
                held.append(raw.copy())
                return sys.modules["mpi4py.MPI"].REQUEST_NULL
            done = True
            honest(link, raw)
            return honest(link, held[0])

        replace_call(link_class, "isend", isend)

    return arm


def stale(kind: str, step: int) -> Lie:
    """Send the first message of ``kind`` again in the place of one of ``step``."""

    def arm(world: Any) -> None:
        link_class: Any = import_module("clicooper_hpc.transport.link").Link
        honest = link_class.isend
        first: list[Any] = []

        def isend(link: Any, raw: Any) -> Any:
            code, number = int(raw[5]), int(raw[8:16].view(np.int64)[0])
            if code == Kind[kind]:
                first.append(first[0] if first else raw.copy())
                if is_due(number, step):
                    return honest(link, first[0])
            return honest(link, raw)

        replace_call(link_class, "isend", isend)

    return arm


def numbers(kind: str, step: int, change: Callable[[Any], None]) -> Lie:
    """Change every payload of ``kind`` from ``step`` on, before it is digested and sent."""

    def arm(world: Any) -> None:
        sender_class: Any = import_module("clicooper_hpc.transport.sender").Sender
        honest = sender_class._check_finite

        torch_dtype_of: Any = import_module("clicooper_hpc.transport.wire_dtype").torch_dtype_of

        def check(self: Any, slot: Any, header: Any) -> None:
            if header.kind == Kind[kind] and is_due(header.step, step):
                change(slot.payload_view(torch_dtype_of(header.dtype), header.shape))
            else:
                honest(self, slot, header)

        replace_call(sender_class, "_check_finite", check)

    return arm


def put(value: float, place: int = 0) -> Callable[[Any], None]:
    def change(payload: Any) -> None:
        payload.view(-1)[place] = value

    return change


def times(factor: float) -> Callable[[Any], None]:
    return lambda payload: payload.mul_(factor)


def reshaped(kind: str, step: int, change: Callable[[Any], Any]) -> Lie:
    """Send another tensor than was computed."""

    def arm(world: Any) -> None:
        sender_class: Any = import_module("clicooper_hpc.transport.sender").Sender
        honest = sender_class.send

        def send(self: Any, tensor: Any, sort: Any, number: int, part: int, **rest: Any) -> None:
            if sort == Kind[kind] and is_due(number, step):
                tensor = change(tensor)
            honest(self, tensor, sort, number, part, **rest)

        replace_call(sender_class, "send", send)

    return arm


def called_from(name: str) -> bool:
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == name:
            return True
        frame = frame.f_back
    return False


def said(
    function: str, change: Callable[[bytes], bytes], *, count: int = 1, to: int | None = None
) -> Lie:
    """Change the byte strings sent the ``count``-th time (0: always) for ``function``."""

    def arm(world: Any) -> None:
        places: list[Any] = [
            import_module("clicooper_hpc.transport.collectives"),
            import_module("clicooper_hpc.transport.world"),
        ]
        honest = places[0].send_blob
        seen: dict[int, int] = {}

        def send_blob(link: Any, payload: Any, **rest: Any) -> Any:
            if called_from(function) and not (
                function != "agree" and called_from("allreduce_failure")
            ):
                seen[link.peer] = seen.get(link.peer, 0) + 1
                if count in (0, seen[link.peer]) and to in (None, link.peer):
                    payload = change(bytes(payload))
            return honest(link, payload, **rest)

        for place in places:
            replace_call(place, "send_blob", send_blob)

    return arm


def both(*lies: Lie) -> Lie:
    def arm(world: Any) -> None:
        for lie in lies:
            lie(world)

    return arm


def swapped(function: str, to: int | None = None) -> Lie:
    """Send the byte string of the first time again the second time."""

    def arm(world: Any) -> None:
        first: list[bytes] = []

        def change(payload: bytes) -> bytes:
            first.append(payload)
            return first[0]

        for count in (1, 2):
            said(function, change, count=count, to=to)(world)

    return arm


def changed_json(**values: Any) -> Callable[[bytes], bytes]:
    return lambda payload: json.dumps({**json.loads(payload), **values}).encode()


def labels(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def lie(payload: bytes) -> bytes:
        array = np.frombuffer(payload, np.int32).copy()
        change(array)
        return array.tobytes()

    return lie


def at(moment: str, action: Callable[[], object], count: int = 20) -> Lie:
    """Do ``action`` the ``count``-th time this rank comes to a moment of killed.py."""

    def arm(world: Any) -> None:
        from killed import places

        holder, name = places(world.rank, moment)
        honest = getattr(holder, name)
        calls = 0

        def fatal(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == count:
                action()
            return honest(*args, **options)

        replace_call(holder, name, fatal)

    return arm


def strike() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise RuntimeError("out of order")


GARBAGE = b"\xff\x00\xfe[{" * 7
NESTED = b"[" * 12_000


def stop_token(value: list[int], step: int) -> Lie:
    def change(tensor: Any) -> Any:
        return torch.tensor(value, dtype=torch.int64) if tensor.dtype == torch.int64 else tensor

    return reshaped("CONTROL", step, change)


def delivered(change: Callable[[Any], Any]) -> Lie:
    """Deliver other tensors than were trained."""

    def arm(world: Any) -> None:
        from safetensors.torch import save

        loop: Any = import_module("clicooper_hpc.trainer.loop")
        replace_call(loop, "save", lambda state: save(change(dict(state))))

    return arm


def overgrown(state: Any) -> Any:
    return {name: torch.full_like(value, 3e38) for name, value in state.items()}


def renamed(state: Any) -> Any:
    return {f"other.{name}": value for name, value in state.items()}


def narrow(state: Any) -> Any:
    return {name: value.bfloat16() for name, value in state.items()}


def scaled(state: Any) -> Any:
    return {name: value * 1e6 for name, value in state.items()}


def falsely_digested(world: Any) -> None:
    """Store one's files honestly, and say and seal other digests of them."""
    from dataclasses import replace

    writer: Any = import_module("clicooper_hpc.training.checkpoint_writer")
    honest = writer.store_checkpoint_file
    replace_call(
        writer,
        "store_checkpoint_file",
        lambda *args: replace(honest(*args), sha256="0" * 64),
    )


ACT, GRAD, REL = ("ACTIVATION", 5), ("GRADIENT", 5), ("RELEASE", 1)
HEADER_LIES: dict[str, Callable[..., Any]] = {
    "magic": written(0, 0, 4),
    "version": written(4, 9, 1),
    "unknown kind": written(5, 99, 1),
    "other kind": written(5, int(Kind.LOGITS), 1),
    "unknown dtype": written(6, 99, 1),
    "other dtype": written(6, 7, 1),
    "dimensions": written(7, 7, 1),
    "step below 0": written(8, -1, 8),
    "step before": written(8, 4, 8),
    "step behind": written(8, 2**40, 8),
    "micro-batch": written(16, 2, 4),
    "shape": written(20, 2**31, 4),
    "payload bytes": written(44, HUGE, 8),
    "blob bytes": written(52, HUGE, 8),
    "reserved": written(60, 1, 4),
    "cut": resized(-4),
    "header only": only(HEADER_BYTES),
    "three bytes": only(3),
    "no bytes": only(0),
    "longer": resized(4),
    "64 MiB": resized(2**26),
    "missing": dropped,
    "twice": doubled,
    "2000 times": flooded,
    "flipped bit": flipped,
    "other tag": elsewhere(tag=77),
}
for name, change in HEADER_LIES.items():
    LIES[f"activation: {name}"] = on_wire(*ACT, change)
for name in ("step before", "missing", "flipped bit"):
    LIES[f"gradient: {name}"] = on_wire(*GRAD, HEADER_LIES[name])
    LIES[f"release: {name}"] = on_wire(*REL, HEADER_LIES[name])
for kind in ("NORM", "METRICS", "LOGITS"):
    for name in ("missing", "other dtype"):
        LIES[f"{Kind[kind].words}: {name}"] = on_wire(
            kind, 12 if kind == "LOGITS" else 5, HEADER_LIES[name]
        )
for kind in ("SEGMENT", "PROOF", "CONTROL"):
    for name in ("blob bytes", "missing", "64 MiB"):
        LIES[f"{Kind[kind].words}: {name}"] = on_wire(
            kind, 20 if kind == "CONTROL" else 0, HEADER_LIES[name], stream=True
        )
LIES |= {
    "honest": lambda world: None,
    "activation: to the owner": on_wire(*ACT, elsewhere(peer=0)),
    "activation: behind the next": in_place_of_next(*ACT),
    "activation: stale": stale(*ACT),
    "gradient: behind the next": in_place_of_next(*GRAD),
    "gradient: stale": stale(*GRAD),
}
for kind, step, name in (
    ("ACTIVATION", 5, "activation"),
    ("GRADIENT", 5, "gradient"),
    ("NORM", 5, "gradient norm"),
    ("METRICS", 5, "metrics"),
    ("LOGITS", 12, "logits"),
    ("RELEASE", 1, "release"),
):
    LIES[f"{name}: NaN"] = numbers(kind, step, put(float("nan")))
    LIES[f"{name}: infinity"] = numbers(kind, step, put(float("-inf")))
LIES |= {
    "activation: x 1e6": numbers(*ACT, times(1e6)),
    "gradient: x 1e6": numbers(*GRAD, times(1e6)),
    "release: x 1e6": numbers("RELEASE", 3, times(1e6)),
    "metrics: loss x 1e6": numbers("METRICS", 10, lambda payload: payload[:1].mul_(1e6)),
    "gradient norm: x 1e7": numbers("NORM", 10, times(1e7)),
    "gradient norm: below 0": numbers("NORM", 5, put(-1.0)),
    "gradient norm: 0": numbers("NORM", 5, put(0.0)),
    "metrics: loss below 0": numbers("METRICS", 5, put(-1.0)),
    "metrics: accuracy 2": numbers("METRICS", 5, put(2.0, 1)),
    "metrics: learning rate": numbers("METRICS", 5, put(0.5, 2)),
    "metrics: stop 7": numbers("METRICS", 5, put(7.0, 3)),
    "activation: a row less": reshaped(*ACT, lambda tensor: tensor[:-1]),
    "activation: bfloat16": reshaped(*ACT, lambda tensor: tensor.bfloat16()),
    "gradient: a row less": reshaped(*GRAD, lambda tensor: tensor[:-1]),
    "gradient: bfloat16": reshaped(*GRAD, lambda tensor: tensor.bfloat16()),
    "release: a row less": reshaped(*REL, lambda tensor: tensor[:-1]),
    "logits: a row less": reshaped("LOGITS", 12, lambda tensor: tensor[:-1]),
    "stop token: neither": stop_token([2, 0], 5),
    "stop token: stop": stop_token([1, 1], 5),
    "stop token: missing": on_wire("CONTROL", 5, dropped),
    "delivery: garbage": said("_deliver_segment", lambda _: GARBAGE),
    "delivery: nothing": said("_deliver_segment", lambda _: b""),
    "delivery: longer": said("_deliver_segment", lambda payload: payload + bytes(2**20)),
    "delivery: 3e38": delivered(overgrown),
    "delivery: x 1e6": delivered(scaled),
    "delivery: other names": delivered(renamed),
    "delivery: bfloat16": delivered(narrow),
    "checkpoint: garbage": said("save_checkpoint", lambda _: GARBAGE),
    "checkpoint: nested": said("save_checkpoint", lambda _: NESTED[:4000]),
    "checkpoint: other names": said(
        "save_checkpoint", lambda _: b'{"../../private/master.key": [1, "00"]}'
    ),
    "checkpoint: another rank's": said(
        "save_checkpoint",
        lambda _: json.dumps({"segment-001.safetensors": [1, "0" * 64]}).encode(),
    ),
    "checkpoint: no digest": said(
        "save_checkpoint",
        lambda payload: json.dumps(
            {name: [size, "Z" * 64] for name, (size, _) in json.loads(payload).items()}
        ).encode(),
    ),
    "checkpoint: other digest": said(
        "save_checkpoint",
        lambda payload: json.dumps(
            {name: [size, "0" * 64] for name, (size, _) in json.loads(payload).items()}
        ).encode(),
    ),
    "checkpoint: false digest, sealed": falsely_digested,
    "checkpoint list: garbage": said("_seal", lambda _: GARBAGE),
    "checkpoint list: nested": said("_seal", lambda _: NESTED[:4000]),
    "checkpoint list: nothing": said("_seal", lambda _: b"{}"),
    "checkpoint list: other name": said(
        "_seal", lambda _: json.dumps({"../../private/master.key": [1, "0" * 64]}).encode()
    ),
    "checkpoint seal: garbage": said("_seal", lambda payload: bytes(len(payload))),
    "checkpoint seal: longer": said("_seal", lambda payload: payload * 2),
    "proof: garbage": said("send_proof", lambda _: GARBAGE),
    "proof: nothing": said("send_proof", lambda _: b""),
    "proof: nested": said("send_proof", lambda _: NESTED),
    "proof: too long": said("send_proof", lambda payload: payload + b" " * 200_000),
    "proof: of the stage before": swapped("send_proof", to=2),
    "enrolment: garbage": said("send_to_gather", lambda _: GARBAGE),
    "enrolment: nested": said("send_to_gather", lambda _: NESTED),
    "cosignature: garbage": said("cosign", lambda _: GARBAGE),
    "key: nothing": said("agree_on_signers", lambda _: b""),
    "verdict: short": said("agree", lambda _: b"\x00", count=2),
    "verdict: 2**31 bytes of reason": said("agree", lambda _: bytes(4) + b"x" * 5000, count=2),
    "request: garbage": said("_run_main", lambda _: GARBAGE),
    "request: nothing": said("_run_main", lambda _: b""),
    "request: nothing, to one": said("_run_main", lambda _: b"", to=1),
    "request: nested": said("_run_main", lambda _: NESTED),
    "request: numbers": said("_run_main", lambda _: b"[1, 2, 3, 4]"),
    "request: no job": said("_run_main", lambda _: b'["/nowhere", "/", "{}", null]'),
    "contract: garbage": said("_share_contract", lambda _: GARBAGE),
    "contract: nested": said("_share_contract", lambda _: NESTED),
    "contract: huge rows": said("_share_contract", changed_json(release_shape=[2**20, 2**20])),
    "contract: huge samples": said("_share_contract", changed_json(samples=2**40)),
    "contract: huge outputs": said("_share_contract", changed_json(outputs=2**50)),
    "contract: no samples": said("_share_contract", changed_json(samples=0)),
    "contract: below 0": said("_share_contract", changed_json(outputs=-1)),
    "contract: others to one": said("_share_contract", changed_json(validation_samples=19), to=2),
    "run id: garbage": said("_share_run_id", lambda _: GARBAGE),
    "run id: others to one": said("_share_run_id", lambda _: b"0" * 32, to=2),
    "cuts: garbage": said("_agree_on_cuts", lambda _: GARBAGE),
    "cuts: outside": said("_agree_on_cuts", lambda _: b"[99]"),
    "cuts: no numbers": said("_agree_on_cuts", lambda _: b'["1"]'),
    "cuts: others to one": said("_agree_on_cuts", lambda _: b"[1]", to=2),
    "sub-labels: out of range": said("_share_sub_labels", labels(lambda a: a.put(3, 10**6))),
    "sub-labels: below 0": said("_share_sub_labels", labels(lambda a: a.put(3, -1))),
    "sub-labels: odd bytes": said("_share_sub_labels", lambda payload: payload[:-1]),
    "sub-labels: too many": said("_share_sub_labels", lambda payload: payload * 2),
    "sub-labels: others to one": said(
        "_share_sub_labels", labels(lambda a: a.put(0, (a[0] + 1) % 20)), to=2
    ),
    "keys: garbage": said("agree_on_signers", lambda payload: bytes(len(payload))),
    "keys: other nonce": said("agree_on_signers", lambda payload: payload[:-32] + bytes(32)),
    "keys: other nonce to one": said(
        "agree_on_signers", lambda payload: payload[:96] + bytes(32) + payload[128:], to=2
    ),
    "keys: garbage, and all is well": both(
        said("agree_on_signers", lambda payload: bytes(len(payload))),
        said("agree", lambda _: struct.pack("<ii", 0, -1), count=0),
    ),
    "run statement: garbage": said("_enrol_trainers", lambda _: GARBAGE),
    "ledger: garbage": said("_publish", lambda _: GARBAGE, count=2),
    "ledger: nested": said("_publish", lambda _: NESTED, count=2),
    "ledger: no growth": said("_publish", lambda _: b'{"checkpoints":[],"entries":[]}', count=2),
    "ledger: an entry more": said(
        "_publish",
        lambda payload: (
            lambda value: json.dumps(
                {**value, "entries": [*value["entries"], value["entries"][-1]]},
                separators=(",", ":"),
                ensure_ascii=False,
            ).encode()
        )(json.loads(payload)),
        count=2,
    ),
    "ledger: of the stage before": swapped("_publish"),
    "ledger: to one alone": said(
        "_publish", lambda _: b'{"checkpoints":[],"entries":[]}', count=2, to=2
    ),
    "hand-off: garbage": said("log_stage", lambda _: GARBAGE),
    "evaluated: longer": said("_take_delivery", lambda _: bytes(17)),
    "steps: garbage": said("_agree_on_checkpoint", lambda _: GARBAGE),
    "steps: not falling": said("_agree_on_checkpoint", lambda _: b"[1, 1, 1, 1, 1]"),
    "steps: none": said("_agree_on_checkpoint", lambda _: b"[]"),
    "ledger size: garbage": said("search_restart_point", lambda _: GARBAGE[:4], count=2),
    "ledger size: too large": said("search_restart_point", lambda _: b"9" * 32, count=2),
    "ledger size: a stage more": said("search_restart_point", lambda _: b"15", count=2),
    "ledger size: 0": said("search_restart_point", lambda _: b"0", count=2),
    "whole ledger: garbage": said("_restore_ledger", lambda _: GARBAGE),
    "whole ledger: empty": said("_restore_ledger", lambda _: b'{"checkpoints":[],"entries":[]}'),
    "leaves with 0": at("forward", lambda: os._exit(0)),
    "sys.exit(0)": at("forward", lambda: sys.exit(0)),
    "raises": at("backward", fail),
    "hangs": at("forward", lambda: time.sleep(10_000)),
    "raises in stage 1": at("forward", fail),
    "killed in a step": at("forward", strike),
    # The owner comes to this moment once a step.
    "killed before a step": at("forward", strike, count=6),
    "killed in a checkpoint": at("checkpoint", strike, count=2),
    "killed in a proof": at("proof", strike, count=2),
    "killed in a delivery": at("delivery", strike, count=2),
    "leaves with 0 in a delivery": at("delivery", lambda: os._exit(0), count=1),
}
