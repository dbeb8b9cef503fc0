"""Branches of a conversation: turns are a tree, one way through it is shown.

A question that is edited, or answered anew, becomes a sibling of the turn it replaces; both
stay. Pure: from who follows whom to the way that is shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """One turn of the way that is shown.

    versions: ids of the turns that stand at this place, oldest first, itself among them.
    """

    turn_id: int
    versions: tuple[int, ...]

    @property
    def number(self) -> int:
        """Which of the versions this is, from 1."""
        return self.versions.index(self.turn_id) + 1

    @property
    def previous(self) -> int | None:
        """The version before this one."""
        return self.versions[self.number - 2] if self.number > 1 else None

    @property
    def next(self) -> int | None:
        """The version after this one."""
        return self.versions[self.number] if self.number < len(self.versions) else None


def way(parents: Mapping[int, int | None], leaf: int | None) -> list[Place]:
    """The turns from the first question to `leaf`, in order.

    Args:
        parents: of every turn of the conversation, the turn that it follows; None for none.
        leaf: where the way ends; None, or an id that is not there, for the newest turn.
    """
    if leaf not in parents:
        leaf = max(parents, default=None)
    children = _children(parents)
    found: list[Place] = []
    turn_id = leaf
    while turn_id is not None:
        before = parents[turn_id]
        found.append(Place(turn_id, tuple(children[before])))
        turn_id = before
    return found[::-1]


def newest_leaf(parents: Mapping[int, int | None], turn_id: int) -> int:
    """The end of the way through this turn that was gone last."""
    children = _children(parents)
    below = [turn_id]
    for one in below:  # grows while it is read
        below += children.get(one, ())
    return max(one for one in below if one not in children)


def _children(parents: Mapping[int, int | None]) -> defaultdict[int | None, list[int]]:
    children: defaultdict[int | None, list[int]] = defaultdict(list)
    for turn_id in sorted(parents):
        children[parents[turn_id]].append(turn_id)
    return children
