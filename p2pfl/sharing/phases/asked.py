"""Questions of GATHER are answered once: what a member asks for, others send, some of it to all.

Twenty bytes of a question bring half a megabyte to each member of U. Who may ask again and again fills everybody's
queues with one peer's words, until their links to it are given up: and that peer is named for it.
"""

from __future__ import annotations

from dataclasses import replace

from p2pfl.messages import Want
from p2pfl.sharing.events import Effect, Received
from p2pfl.sharing.phases import gather
from p2pfl.sharing.state import State


def help_out(state: State, event: Received) -> list[Effect]:
    """Give what a member lacks and has not asked for in this attempt before."""
    letter, message = event.letter, event.letter.message
    if not isinstance(message, Want):
        return []
    known = state.asked_for.setdefault(letter.sender, set())
    fresh = tuple(one for one in dict.fromkeys(message.lacking) if one not in known)
    if message.what == gather.WORDS:
        known.update(fresh)
    return gather.help_out(state, replace(event, letter=replace(letter, message=replace(message, lacking=fresh))))
