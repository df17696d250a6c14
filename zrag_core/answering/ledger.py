"""The hard spending limit: money is reserved before a request leaves and settled when its answer is in."""

from __future__ import annotations

import asyncio

from zrag_core.answering.spending_account import SpendingAccount


class SpendingLedger:
    """Keeps what was spent, what may have been spent and what is in flight below a limit.

    Every request reserves its worst case first, so no number of concurrent requests can overshoot
    the limit. A request that was sent and never answered may still be billed: its reservation
    stays counted as `unconfirmed`. Several readers (the answering model and the judge) may share one.
    Use it from one event loop at a time.

    Args:
        limit_usd: nothing is sent that could lift the total above this.
        account: of the run whose other parts, in other processes too, share the limit; None: there are none.
    """

    def __init__(self, limit_usd: float, account: SpendingAccount | None = None):
        self.limit_usd = limit_usd
        self._account = account
        self.spent_usd = 0.0
        self.unconfirmed_usd = 0.0
        self.exhausted = False
        self._reserved_usd = 0.0
        self._in_flight = 0
        self._settled = asyncio.Event()

    @property
    def counted_usd(self) -> float:
        """US dollars spent or perhaps spent, as far as settled."""
        return self.spent_usd + self.unconfirmed_usd

    async def reserve(self, amount_usd: float) -> bool:
        """Reserve `amount_usd`, waiting for requests in flight where they may leave enough over.

        Returns:
            False once the limit is reached; from then on for every request.
        """
        while not self.exhausted and not self.try_reserve(amount_usd):
            if self._in_flight == 0:
                self.exhausted = True
                break
            if self._settled.is_set():
                # A new one, not a cleared one: an event belongs to the loop that first waited on it.
                self._settled = asyncio.Event()
            await self._settled.wait()
        return not self.exhausted

    def try_reserve(self, amount_usd: float) -> bool:
        """Reserve `amount_usd` if the limit leaves room for it now; waits for nothing."""
        if self._total() + amount_usd > self.limit_usd:
            return False
        perhaps = self.unconfirmed_usd + self._reserved_usd + amount_usd
        # What is free of charge leaves no trace.
        if self._account and amount_usd and not self._account.reserve(self.spent_usd, perhaps, self.limit_usd):
            return False
        self._reserved_usd += amount_usd
        self._in_flight += 1
        return True

    def commit(self, amount_usd: float) -> None:
        """Reserve `amount_usd` for a request that an earlier run has sent, whatever the limit is now."""
        self._reserved_usd += amount_usd
        self._in_flight += 1
        self._record(amount_usd)

    def settle(self, reserved_usd: float, cost_usd: float) -> None:
        """Replace a reservation by what the request really cost (0 when it was refused)."""
        self._release(reserved_usd)
        self.spent_usd += cost_usd
        self._record(reserved_usd)

    def lose(self, reserved_usd: float) -> None:
        """Keep a reservation counted: the request was sent and its answer never came."""
        self._release(reserved_usd)
        self.unconfirmed_usd += reserved_usd
        self._record(reserved_usd)

    def refuse(self, reserved_usd: float, *, perhaps_billed: bool) -> None:
        """End the reservation of a request that failed: lost where the server may charge it all the same."""
        if perhaps_billed:
            self.lose(reserved_usd)
        else:
            self.settle(reserved_usd, 0.0)

    def _release(self, reserved_usd: float) -> None:
        self._in_flight -= 1
        # Exactly zero when nothing is in flight, so that rounding never adds up.
        self._reserved_usd = self._reserved_usd - reserved_usd if self._in_flight else 0.0
        self._settled.set()

    def _record(self, reserved_usd: float) -> None:
        if self._account and reserved_usd:
            self._account.record(self.spent_usd, self.unconfirmed_usd + self._reserved_usd)

    def _total(self) -> float:
        return self.counted_usd + self._reserved_usd
