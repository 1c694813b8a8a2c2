"""The 19 checks of docs/provenance.md a second time, from that page alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from independent_folder import MOST_EVIDENCE_BYTES
from independent_formats import (
    MismatchError,
    Note,
    canonical,
    read_canonical,
    read_envelope,
    read_note,
    tagged,
    tree_root,
)
from independent_ledger import Ledger, need, same
from independent_statements import statement_kind

LEAST_PLANNED = 13.33  # sqrt(bits) * tau of the weakest mark that may be planned
LEAST_READ = 9.42  # smallest statistic a trainer may have read back


class Verifier(Ledger):
    """All checks over one run folder; `report` has (number, verdict, text) for each."""

    #: Without which checks one is not run.
    BUILDS_ON: Mapping[int, tuple[int, ...]] = {
        2: (1,),
        **dict.fromkeys((3, 4, 16, 17), (2,)),
        **dict.fromkeys((5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 18), (3,)),
        13: (3, 5),
    }

    def report(self) -> list[tuple[int, str, str]]:
        """Run all checks in order: verdict `ok`, `FAILED`, `not run` or `-`, and what was found."""
        verdicts: dict[int, str] = {}
        lines = []
        for number in range(1, 20):
            check: Callable[[], str] = getattr(self, f"check_{number}")
            if any(verdicts[before] != "ok" for before in self.BUILDS_ON.get(number, ())):
                verdicts[number], text = "not run", ""
            else:
                try:
                    verdicts[number], text = "ok", check()
                except MismatchError as refused:
                    verdicts[number], text = "FAILED", str(refused)
                if text.startswith("not applicable"):
                    verdicts[number] = "-"
            lines.append((number, verdicts[number], text))
        return lines

    def check_1(self) -> str:
        need(self.facts.missing_ledger is None, f"the owner's file: {self.facts.missing_ledger}")
        need(self.facts.denied_proofs is None, f"the job denies {self.facts.denied_proofs}")
        for place, text in enumerate(self.facts.envelopes):
            try:
                envelope = read_envelope(text)
                self.entries.append((statement_kind(envelope.statement), envelope))
            except MismatchError as refused:
                raise MismatchError(f"entry {place}: {refused}") from None
        need(bool(self.entries), "the ledger is empty")
        return f"entries: {len(self.entries)}"

    def check_2(self) -> str:
        kind, envelope = self.entries[0]
        need(kind == "run", "entry 0 is no run statement")
        said, facts = envelope.predicate, self.facts
        need(
            envelope.signed_by(said["owner"]), "the run statement is not signed by its owner alone"
        )
        need(said["run_id"] == facts.run_id, "another run id")
        need(said["job_digest"] == tagged("job", facts.job_text.encode()), "another job")
        need(said["job_digest"] == facts.job_digest, "another digest beside the job")
        need(said["card_digest"] == facts.card_digest, "another privacy card")
        return f"segments: {self.segments}, stages: {self.stages}, steps: {said['total_steps']}"

    def check_3(self) -> str:
        need(
            len(self.entries) <= self.size,
            f"{len(self.entries)} entries, of {self.size} that can be",
        )
        for place, (kind, envelope) in enumerate(self.entries):
            planned, stage, which = self.planned(place)
            said = envelope.predicate
            need(kind == planned, f"entry {place} is a {kind} statement, not {planned}")
            need(
                said["run_id"] == self.statement["run_id"], f"entry {place} belongs to another run"
            )
            need(stage < 0 or said["stage"] == stage, f"entry {place} is of another stage")
            number = said.get("boundary" if kind == "handoff" else "segment", -1)
            need(number == which, f"entry {place} is of another segment or boundary")
        return f"entries: {len(self.entries)} of {self.size}"

    def check_4(self) -> str:
        planned = [self.base(stage) for stage in range(self.stages + 1)] + [self.size]
        due = [size for size in planned if size <= len(self.entries)]
        notes = self.facts.notes
        need(len(notes) == len(due), f"{len(notes)} checkpoints, not {len(due)}")
        for size, text in zip(due, notes, strict=True):
            try:
                note = read_note(text)
            except MismatchError as refused:
                raise MismatchError(f"checkpoint {size}: {refused}") from None
            need(note.origin == self.statement["run_id"], f"checkpoint {size} of another run")
            need(note.size == size, f"checkpoint {size} speaks of {note.size} entries")
            need(note.root == self.root(size), f"checkpoint {size} has another root")
            need(
                note.signed_by("owner", self.statement["owner"]),
                f"checkpoint {size} is not the owner's",
            )
            alone = len(note.signatures) == 1 or size == self.size
            need(alone, f"checkpoint {size} is signed by others too")
        return f"checkpoints: {len(due)}"

    def check_5(self) -> str:
        need(
            len(self.entries) == self.size,
            f"it ends after {len(self.entries)} of {self.size} entries",
        )
        need(bool(self.facts.notes), "the last checkpoint is missing")
        note = read_note(self.facts.notes[-1])
        need(note.size == self.size, "the last checkpoint speaks of another size")
        need(len(note.signatures) == 1 + self.segments, "the last checkpoint has other signers")
        need(
            note.signed_by("owner", self.statement["owner"]),
            "the last checkpoint is not the owner's",
        )
        for segment in range(1, self.segments + 1):
            name = f"trainer-{segment}"
            need(
                note.signed_by(name, self.trainer(segment)),
                f"{name} did not cosign the last checkpoint",
            )
        need(self.facts.status == "complete", f"the run says that it is {self.facts.status}")
        return f"cosignatures: {self.segments}"

    def check_6(self) -> str:
        facts, said = self.facts, self.statement
        allowed = facts.job_trainers
        for key in said["trainers"]:
            need(allowed is None or key in allowed, f"the job does not allow the key {key}")
        for segment in range(1, min(self.segments, len(self.entries) - 1) + 1):
            envelope, place = self.entries[segment][1], f"enrolment of segment {segment}"
            need(
                envelope.signed_by(self.trainer(segment)),
                f"{place} is not signed by its trainer alone",
            )
            need(
                envelope.predicate["run"] == self.entries[0][1].digest,
                f"{place} is for another run",
            )
            mark = envelope.predicate.get("mark")
            if mark is None:
                need(facts.marks != "required", f"{place} has no mark, and the job requires one")
                continue
            need(facts.marks != "off", f"{place} has a mark, and the job wants none")
            planned = math.sqrt(mark["bits"]) * float(mark["tau"])
            need(planned >= LEAST_PLANNED, f"{place}: too weak a mark")
        return f"trainers: {self.segments}"

    def check_7(self) -> str:
        nonces = set()
        for stage, segment, envelope in self.all("ticket"):
            said, place = envelope.predicate, f"ticket of segment {segment}, stage {stage}"
            first = self.at("ticket", stage, 1)
            assert first is not None
            need(
                envelope.signed_by(self.statement["owner"]),
                f"{place} is not signed by the owner alone",
            )
            steps = self.statement["stage_bounds"][stage : stage + 2]
            need([said["first_step"], said["last_step"]] == steps, f"{place} orders other steps")
            need(said["job_digest"] == self.statement["job_digest"], f"{place} orders another job")
            for name in ("data_order", "samples"):
                need(
                    said[name] == first.predicate[name], f"{place}: {name} differs within the stage"
                )
            self.head_before(said["ledger"], self.base(stage), place)
            need(said["nonce"] not in nonces, f"{place} uses a nonce again")
            nonces.add(said["nonce"])
        return f"tickets: {len(nonces)}"

    def check_8(self) -> str:
        found = self.all("handoff")
        for stage, boundary, envelope in found:
            said, place = envelope.predicate, f"hand-off {boundary} of stage {stage}"
            sender = self.trainer(boundary) if boundary else self.statement["owner"]
            need(
                envelope.signed_by(sender, self.trainer(boundary + 1)),
                f"{place} is not signed by both",
            )
            back = boundary > 0 and self.statement["coupling"] == "backprop"
            fed = said["forward"]["messages"] > 0 or (boundary == 0 and stage > 0)
            need(fed, f"{place}: nothing went forward")
            need((said["backward"]["messages"] > 0) == back, f"{place}: gradients")
        return f"hand-offs: {len(found)}"

    def check_9(self) -> str:
        found, moved = self.all("stage"), 0
        for stage, segment, envelope in found:
            said, place = envelope.predicate, f"proof of segment {segment}, stage {stage}"
            ticket = self.at("ticket", stage, segment)
            assert ticket is not None
            need(
                envelope.signed_by(self.trainer(segment)),
                f"{place} is not signed by its trainer alone",
            )
            need(said["ticket"] == ticket.digest, f"{place} answers another ticket")
            first, last = self.statement["stage_bounds"][stage : stage + 2]
            need(said["steps"] == last - first, f"{place} counts other steps")
            need(said["samples"] == ticket.predicate["samples"], f"{place} counts other samples")
            enrolled = self.entries[segment][1].predicate["environment"]
            moved += said["environment"] != tagged("environment", canonical(enrolled).encode())
        return f"proofs: {len(found)}, in another environment than enrolled: {moved}"

    def check_10(self) -> str:
        for stage, segment, envelope in self.all("stage"):
            said, place = envelope.predicate, f"proof of segment {segment}, stage {stage}"
            before = self.previous(stage, segment)
            need(said["previous"] == before.digest, f"{place} names another proof before it")
            if stage == 0:
                start = self.statement["initial_weights"][segment - 1]
                need(said["weights_in"] == start, f"{place} starts from other weights")
            else:
                for what in ("weights", "optimizer"):
                    same = said[f"{what}_in"] == before.predicate[f"{what}_out"]
                    need(same, f"{place} starts from another state: {what}")
        return f"chains: {self.segments}"

    def check_11(self) -> str:
        for stage, segment, envelope in self.all("stage"):
            said, place = envelope.predicate, f"proof of segment {segment}, stage {stage}"
            here, after = self.at("handoff", stage, segment - 1), self.at("handoff", stage, segment)
            assert here is not None
            need(
                said["handoff_in"] == here.payload_digest,
                f"{place} names another hand-off before it",
            )
            if segment == self.segments:
                need("handoff_out" not in said, f"{place} names a hand-off behind the last segment")
                above = after
            else:
                assert after is not None
                need(
                    said.get("handoff_out") == after.payload_digest,
                    f"{place} names another hand-off after it",
                )
            above = self.at("stage", stage, segment - 1) if segment > 1 else None
            upstream = above.digest if above else here.payload_digest
            need(said["upstream"] == upstream, f"{place} names another neighbour's proof")
        return f"segments: {self.segments}"

    def check_12(self) -> str:
        marks = 0
        for stage, segment, envelope in self.all("stage"):
            said, place = envelope.predicate, f"proof of segment {segment}, stage {stage}"
            plan, mark = self.entries[segment][1].predicate.get("mark"), said.get("mark")
            need((plan is None) == (mark is None), f"{place}: marked otherwise than enrolled")
            if plan is None or mark is None:
                continue
            neighbour = self.previous(stage, segment - 1)
            ticket = self.at("ticket", stage, segment)
            assert ticket is not None
            parts = (
                ticket.digest,
                self.previous(stage, segment).digest,
                neighbour.digest,
                said["weights_in"],
                self.trainer(segment),
            )
            chain = tagged("mark-chain", b"".join(bytes.fromhex(part) for part in parts))
            need(mark["chain"] == chain, f"{place}: the mark is keyed with another chain value")
            need(mark["leaf_index"] == stage, f"{place}: the key of another stage")
            need(mark["errors"] == 0, f"{place}: its trainer read wrong bits back")
            need(
                float(mark["statistic"]) >= LEAST_READ,
                f"{place}: its trainer did not read the mark back",
            )
            marks += 1
        if any("mark" in envelope.predicate for envelope in self.enrolments()):
            return f"marks: {marks}"
        return "not applicable: no segment is marked"

    def check_13(self) -> str:
        envelope = self.entries[-1][1]
        said, files = envelope.predicate, self.facts.delivered
        need(
            envelope.signed_by(self.statement["owner"]),
            "the delivery is not signed by the owner alone",
        )
        self.head_before(said["ledger"], self.size - 1, "delivery")
        need(len(said["segments"]) == self.segments, "another number of segments")
        if files is not None:
            need(len(files) == self.segments, "another number of delivered files")
        for one in said["segments"]:
            place = f"segment {one['segment']}"
            last = self.at("stage", self.stages - 1, one["segment"])
            assert last is not None
            need(
                one["weights"] == last.predicate["weights_out"],
                f"{place}: other weights than proved last",
            )
            if files is not None:
                same(files[one["segment"] - 1], one["weights"], f"{place}: delivered file")
        return f"delivered files: {self.segments}"

    def check_14(self) -> str:
        kept = self.facts.kept
        for (stage, segment), found in kept.items():
            place = f"checkpoint file of segment {segment}, stage {stage}"
            need(
                0 <= stage < self.stages and 1 <= segment <= self.segments,
                f"{place}: there is no such",
            )
            proof = self.at("stage", stage, segment)
            # Saved, but its stage is not proved yet.
            if proof is not None:
                wanted = (proof.predicate["weights_out"], proof.predicate["optimizer_out"])
                same(found, wanted, place)
        total = self.stages * self.segments
        return (
            f"states kept: {len(kept)} of {total}" if kept else "not applicable: no state was kept"
        )

    def check_15(self) -> str:
        tables = self.facts.tables
        if not tables:
            return "not applicable: there are no tables"
        signed = {(i, s): envelope.predicate["tables"] for s, i, envelope in self.all("stage")}
        if len(self.entries) == self.size:
            signed[0, self.stages] = self.entries[-1][1].predicate["tables"]
        for (rank, stage), wanted in signed.items():
            place = f"rows of rank {rank}, stage {stage}"
            need((rank, stage) in tables, f"{place} are missing")
            same(tables[rank, stage], wanted, place)
        possible = {(i, s) for s in range(self.stages) for i in range(1, self.segments + 1)}
        more = sorted(tables.keys() - possible - {(0, self.stages)})
        need(not more, f"rows of ranks and stages that are not: {more}")
        return f"blocks of rows: {len(signed)}"

    def check_16(self) -> str:
        heads = self.facts.heads
        if not heads:
            return "not applicable: there are no heads"
        need(set(heads) <= {*range(1, self.segments + 1)}, "heads of a trainer that is not")
        for segment in range(1, self.segments + 1):
            mine = heads.get(segment, ())
            need(bool(mine) or len(self.facts.notes) <= 1, f"trainer {segment} stored no head")
            for size, root, text in mine:
                inside = 0 <= size <= len(self.entries) and self.root(size).hex() == root
                need(inside, f"trainer {segment} saw another ledger of {size} entries")
                note = self.owners_note(text)
                need(
                    note is not None and (note.size, note.root.hex()) == (size, root),
                    f"the note beside the head of {size} entries of trainer {segment}",
                )
        for name, data in self.facts.evidence.items():
            liar = self.signed_two(data)
            need(liar is None, f"{name}: {liar}")
        return f"heads: {sum(map(len, heads.values()))}"

    def owners_note(self, text: str) -> Note | None:
        """A note of this run that the owner signed, and nobody else."""
        try:
            note = read_note(text)
        except MismatchError:
            return None
        mine = note.origin == self.statement["run_id"] and len(note.signatures) == 1
        return note if mine and note.signed_by("owner", self.statement["owner"]) else None

    def signed_two(self, data: bytes) -> str | None:
        """What a file of evidence proves, and of whom; None if it proves nothing."""
        try:
            said = read_canonical(data) if len(data) <= MOST_EVIDENCE_BYTES else None
        except MismatchError:
            return None
        if not isinstance(said, dict) or set(said) != {"first", "format", "second"}:
            return None
        form, texts = said["format"], (said["first"], said["second"])
        if not all(isinstance(text, str) for text in texts):
            return None
        if form == "clicooper-equivocation/v1":
            return self.two_ledgers(*texts)
        return self.two_proofs(*texts) if form == "clicooper-equivocation-proofs/v1" else None

    def two_ledgers(self, one: str, other: str) -> str | None:
        """What two notes prove of the owner."""
        first, second = self.owners_note(one), self.owners_note(other)
        if first is None or second is None:
            return None
        if first.size != second.size or first.root == second.root:
            return None
        return f"the owner signed two ledgers of {first.size} entries"

    def two_proofs(self, one: str, other: str) -> str | None:
        """What two envelopes prove of a trainer."""
        try:
            envelopes = [read_envelope(text.encode()) for text in (one, other)]
            kinds = {statement_kind(envelope.statement) for envelope in envelopes}
        except MismatchError:
            return None
        first, second = (envelope.predicate for envelope in envelopes)
        if kinds != {"stage"} or envelopes[0].digest == envelopes[1].digest:
            return None
        if any(first[name] != second[name] for name in ("run_id", "segment", "stage", "start")):
            return None
        segment = first["segment"]
        if first["run_id"] != self.statement["run_id"] or segment > self.segments:
            return None
        if not all(envelope.signed_by(self.trainer(segment)) for envelope in envelopes):
            return None
        return f"trainer {segment} signed two proofs of stage {first['stage']} in one start"

    def check_17(self) -> str:
        facts = self.facts
        if facts.owner_key is None and facts.trainer_keys is None:
            return "not applicable: no keys were given"
        need(facts.owner_key in (None, self.statement["owner"]), "the owner holds another key")
        given = facts.trainer_keys
        need(
            given is None or list(given) == self.statement["trainers"],
            "the trainers hold other keys",
        )
        return "the keys are those given"

    def check_18(self) -> str:
        stored = self.facts.messages
        if not stored:
            return "not applicable: there are no tables of messages"
        signed: dict[tuple[int, int, str], tuple[int, str]] = {}
        for stage, boundary, envelope in self.all("handoff"):
            forward, backward = (
                (envelope.predicate[way]["messages"], envelope.predicate[way]["root"])
                for way in ("forward", "backward")
            )
            signed[boundary, stage, "forward_out"] = signed[boundary + 1, stage, "forward_in"] = (
                forward
            )
            signed[boundary, stage, "backward_in"] = signed[boundary + 1, stage, "backward_out"] = (
                backward
            )
        for rank, found in stored.items():
            if isinstance(found, MismatchError):
                raise found
            for (one, stage, channel), flow in signed.items():
                place = f"messages of rank {rank}, stage {stage}, {channel}"
                if one == rank:
                    same(found.get((stage, channel), (0, tree_root([]).hex())), flow, place)
            for stage, channel in found:
                # Those of a stage whose hand-offs are not signed yet are no fault.
                waiting = 0 <= stage < self.stages and len(self.entries) < self.base(stage + 1)
                known = (rank, stage, channel) in signed
                need(known or waiting, f"rank {rank} stored messages nobody signed")
        return f"messages of {len(stored)} ranks"

    def check_19(self) -> str:
        layout = self.facts.layout
        if layout is None:
            return "not applicable: there are no HDF5 files"
        need(not layout, "; ".join(layout[:3]))
        return "the files hold what the page lists"
