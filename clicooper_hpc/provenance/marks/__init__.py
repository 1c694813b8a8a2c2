"""Marks: keyed margins in a segment's weights that show who held it, when in the run.

One mark per segment and training stage. `mark_plan` sizes it, `mark_keys` fixes its keys before the
run, `carriers` draws which weights carry it, `embedder` puts it in, `reading` reads it,
`channel_alignment` undoes what leaves a network's function alone (permuted and rescaled channels).

A mark proves that the holder of a key fixed before the run touched these weights after a known
state of the run. It does not prove that training was done (embedding takes milliseconds: only the
audit proves work), and it does not outlive model extraction or distillation.
"""
