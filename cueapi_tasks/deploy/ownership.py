"""Which of an account's cues are ours; pure.

A cue is ours if its stamp says this app and environment and its name is the one that the stamp gives. One with our
stamp under another name was renamed by hand if the name that the stamp gives is free and it is the only such cue;
else it is a copy, and foreign, as everything without our stamp is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cueapi import Cue

from ..declare.spec import Owner, Stamp, read_stamp

BY_DEPLOY = "deploy"
"""In a stamp's `paused_by`: a deploy paused the cue, and a deploy may resume it."""
BY_REPLACE = "replace"
"""In a stamp's `paused_by`: the cue is parked while its successor is made."""
BY_REPLACE_PAUSED = "replace-paused"
"""The same, of a cue that a person had paused before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """An account's cues, sorted out for one owner."""

    by_name: Mapping[str, Cue]
    owned: Mapping[str, Cue]
    """By the name that each should have; those renamed by hand included."""
    parked: Mapping[str, Sequence[Cue]]
    """Replaced cues that are not deleted yet, by the name that they had."""

    @property
    def foreign(self) -> int:
        """How many cues are not ours."""
        return len(self.by_name) - len(self.owned) - sum(len(cues) for cues in self.parked.values())

    @property
    def stamps(self) -> list[Stamp]:
        """The stamps of all cues that are ours."""
        return [
            stamp_of(cue) for cue in (*self.owned.values(), *(cue for each in self.parked.values() for cue in each))
        ]

    def is_owned(self, cue: Cue) -> bool:
        """Tell whether a cue is ours, in its place or renamed by hand."""
        return self.owned.get(stamp_of(cue).cue_name) is cue if read_stamp(cue.payload) else False


def sort_out(cues: Iterable[Cue], owners: Collection[Owner]) -> Remote:
    """Return the cues sorted out for an owner, under all names that it has had."""
    by_name = {cue.name: cue for cue in cues}
    owned: dict[str, Cue] = {}
    parked: defaultdict[str, list[Cue]] = defaultdict(list)
    strays: defaultdict[str, list[Cue]] = defaultdict(list)
    for cue in by_name.values():
        stamp = read_stamp(cue.payload)
        if stamp is None or stamp.owner not in owners:
            continue
        if stamp.cue_name == cue.name:
            owned[cue.name] = cue
        else:
            (parked if is_parked(cue, stamp) else strays)[stamp.cue_name].append(cue)
    owned |= {name: found[0] for name, found in strays.items() if len(found) == 1 and name not in by_name}
    return Remote(by_name=by_name, owned=owned, parked=dict(parked))


def parked_name(cue: Cue) -> str:
    """Return the name under which a cue waits for its successor."""
    return f"replaced:{cue.id}"


def is_parked(cue: Cue, stamp: Stamp) -> bool:
    """Tell whether a replace parked this cue."""
    return stamp.paused_by in (BY_REPLACE, BY_REPLACE_PAUSED) and cue.name == parked_name(cue)


def is_paused_by_a_person(cue: Cue) -> bool:
    """Tell whether a cue of ours is paused, and no deploy did it."""
    return cue.status == "paused" and stamp_of(cue).paused_by in (None, BY_REPLACE_PAUSED)


def stamp_of(cue: Cue) -> Stamp:
    """Return the stamp of a cue that is known to have one."""
    stamp = read_stamp(cue.payload)
    assert stamp is not None
    return stamp
