"""What could not be sent yet: kept in a spool, replayed from it in order, and in the ledger all the time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping

from ..guard import report, say
from ..ledger import Account, Ledger
from ..payload import EncodedPayload, Payload
from ..spool.contract import Entry, Evicted, Kept, Spool, SpoolError, Turn
from .sender import Sent


class Backlog:
    """The spool and the ledger's account of it. Used by one thread; others may read what is held."""

    def __init__(self, spool: Spool, ledger: Ledger) -> None:
        self._spool = spool
        self._ledger = ledger
        self._unsettled: tuple[Entry, Sent] | None = None
        self.others_replay = False
        """Whether another process replays, and the sink takes what it is sent."""
        self.idle = False
        """Whether there was nothing to replay when it was last tried: nothing kept, or nothing whose turn it was."""
        self.stuck = False
        """Whether what is kept cannot be had back, not even what was put in last."""
        self._fresh = False
        self.held = Kept()
        """What the spool held when it was last looked at."""

    @property
    def perishable(self) -> int:
        """Spans in it that would be lost if the process ended now."""
        return self._spool.perishable

    @property
    def trouble(self) -> str | None:
        """Why spans are not kept where they should be. None: they are."""
        return self._spool.trouble

    @property
    def may_hold(self) -> bool:
        """Whether something may have been left by another process. Costs little."""
        return self._spool.may_hold

    def look(self, *, hurry: bool = False) -> None:
        """See what is there: other processes put in and take out, too. ``hurry``: it is for the last time."""
        self._book_evicted(self._spool.catch_up(hurry=hurry))
        try:
            held = self._spool.kept()
        except SpoolError:
            return  # said by the spool; what is known of it stays as it was
        gone = self._ledger[Account.SPOOLED] - held.mine
        if gone > 0:
            # From a file that is still the same, only other processes take.
            same = self.held.place is None or self.held.place == held.place
            self._ledger.move(gone, Account.SPOOLED, Account.HANDED_OVER if same else "spool_lost")
        self.held = held

    def keep(self, payload: Payload, source: Account) -> None:
        """Keep a payload whose spans are in the account ``source``."""
        self._ledger.move(payload.count, source, Account.SPOOLED)
        try:
            evicted = self._spool.put(payload)
        except Exception as error:  # whatever it is, the books must balance
            if not isinstance(error, SpoolError):
                report("delivery.backlog.keep", error)
            self._ledger.move(payload.count, Account.SPOOLED, "spool_lost")
            return
        self._fresh = True
        self._book_evicted(evicted)
        self.look()

    def replay(self, send: Callable[[Payload], Sent], *, well: bool) -> bool:
        """Send the oldest payload, if it is this process's turn. True: there was one, and nothing of it is left.

        ``well``: whether the sink took what it was sent last.
        """
        self.idle = False
        try:
            with self._spool.turn() as turn:
                self.others_replay = turn is Turn.OTHERS
                return turn is Turn.MINE and self._replay(send, well)
        except SpoolError:
            return False
        finally:
            self.look()

    def renewed(self, ledger: Ledger) -> Backlog:
        """The same for a forked child, which has kept nothing yet."""
        return Backlog(self._spool.renewed(), ledger)

    def before_fork(self) -> None:
        """Let go of everything that must not be in two processes."""
        self._spool.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._spool.after_fork_in_parent()

    def close(self) -> None:
        """Let go of files."""
        self._spool.close()

    def _replay(self, send: Callable[[Payload], Sent], well: bool) -> bool:
        if self._unsettled is not None:
            self._settle(*self._unsettled)
        entry = self._spool.oldest(well=well)
        self.idle = entry is None
        self.stuck, self._fresh = entry is None and self._fresh, False
        if entry is None:
            return False
        if isinstance(entry.payload, EncodedPayload) and not entry.payload.intact:
            say(logging.ERROR, "%d spans in the usage spool are damaged, and were dropped", entry.payload.count)
            sent = Sent(Counter(spool_damaged=entry.payload.count))
        else:
            sent = send(entry.payload)
        if sent.settled:
            self._settle(entry, sent)
        elif well and entry.tired:
            self._cut(entry)
        return sent.left is None

    def _cut(self, entry: Entry) -> None:
        """Make two of a payload that fails while others are taken: the fault is in one of its halves."""
        try:
            first, second = entry.payload.halves()
        except ValueError:
            return  # one span, which is tried for as long as it is kept
        self._book_evicted(self._spool.put(second))
        self._spool.replace(entry, first)
        if not entry.mine:
            self._ledger.adopt(second.count, Account.SPOOLED)

    def _settle(self, entry: Entry, sent: Sent) -> None:
        """Take what was settled out of the spool. Until that is done, nothing is replayed: it would be sent twice."""
        self._unsettled = entry, sent
        gone = entry.payload.count - self._spool.replace(entry, sent.left)
        # What went by another hand, to make room while it was being sent, is in the books already.
        for target in list(sent.settled):
            already = min(gone, sent.settled[target])
            sent.settled[target] -= already
            gone -= already
        self._book(sent.settled, mine=entry.mine)
        self._unsettled = None

    def _book_evicted(self, evicted: Evicted) -> None:
        self._book(evicted.mine, mine=True)
        self._book(evicted.others, mine=False)

    def _book(self, counts: Mapping[Account | str, int], *, mine: bool) -> None:
        for target, count in counts.items():
            if mine:
                self._ledger.move(count, Account.SPOOLED, target)
            else:
                self._ledger.adopt(count, target)
