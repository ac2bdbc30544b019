"""`StrategyKnowledge`: strategies, limits and error rules of one tenant, and their rows in the store."""

from __future__ import annotations

import logging
import threading
from datetime import datetime

from karen_learner.autonomy.strategies.chooser import StrategyChooser
from karen_learner.autonomy.strategies.error_rules import ErrorRules
from karen_learner.autonomy.strategies.limits import LimitTuner
from karen_learner.autonomy.strategies.tallies import DiscountedTallies
from karen_learner.contracts import Clock, StrategyStore
from karen_learner.errors import InvalidInput, KarenLearnerError
from karen_learner.records import check_name
from karen_learner.records.strategies import (
    ALL_DOMAINS,
    StrategyRecommendation,
    StrategyState,
    StrategySwitch,
    SwitchName,
)
from karen_learner.settings import StrategySettings

logger = logging.getLogger(__name__)


class StrategyKnowledge:
    """The knowledge about strategies of one tenant.

    `sync` stores new attempts and switches, and reads those of other processes. It holds `lock` while it
    changes the knowledge; callers of other methods in several threads hold it, too.
    """

    def __init__(
        self,
        settings: StrategySettings,
        *,
        tenant_id: str,
        store: StrategyStore | None,
        clock: Clock,
        seed: int | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self._tenant_id = tenant_id
        self._store = store
        self._tallies = DiscountedTallies(settings.half_life_s)
        self.chooser = StrategyChooser(settings, self._tallies, clock=clock, seed=seed)
        self.limits = LimitTuner(settings, self._tallies, clock=clock)
        self.rules = ErrorRules(settings, self._tallies, clock=clock, seed=seed)
        self._switches: dict[tuple[SwitchName, str], StrategySwitch] = {}
        self._changed: dict[tuple[SwitchName, str], StrategySwitch | None] = {}

    def record(
        self,
        success: bool,
        strategy: str,
        domain: str,
        error_type: str | None = None,
        *,
        choice_id: str | None = None,
        task_id: str | None = None,
        duration_ms: float | None = None,
    ) -> float | None:
        """Count an attempt; the propensity of its choice, if known. Raises InvalidInput."""
        choice = self.chooser.record(success, strategy, domain, choice_id=choice_id)
        self.limits.observe(strategy, domain, error_type, duration_ms)
        self.rules.observe(success, strategy, domain, error_type, task_id)
        return None if choice is None else choice.propensity

    def recommend(self, domain: str) -> StrategyRecommendation:
        """The strategy of the next attempt, with limits and rules. Raises InvalidInput."""
        choice = self.chooser.choose(domain)
        return StrategyRecommendation(
            domain=domain,
            strategy=choice.strategy,
            propensity=choice.propensity,
            choice_id=choice.choice_id,
            is_exploration=choice.is_exploration,
            frozen=choice.frozen,
            limits=self.limits.limits(domain, choice.strategy),
            rules=self.rules.rules(domain),
        )

    # Switches --------------------------------------------------------------------------------

    def freeze(self, strategy: str, domain: str | None = None) -> None:
        """Use one strategy in a domain (None: in all domains).

        Raises InvalidInput for a strategy that is not known there. Before the first attempt any is accepted.
        """
        known = self.chooser.strategies(domain) if domain is not None else self._all_strategies()
        if check_name(strategy, "strategy") not in known and self.chooser.domains():
            raise InvalidInput(f"unknown strategy {strategy!r}: known are {', '.join(sorted(known))}")
        where = ALL_DOMAINS if domain is None else check_name(domain, "domain")
        self._change(StrategySwitch(name="frozen", domain=where, strategy=check_name(strategy, "strategy")))

    def _all_strategies(self) -> frozenset[str]:
        chooser = self.chooser
        return frozenset(name for domain in chooser.domains() for name in chooser.strategies(domain))

    def unfreeze(self, domain: str | None = None) -> None:
        """End `freeze`."""
        self._end("frozen", ALL_DOMAINS if domain is None else domain)

    def bar_best(self, domain: str, *, until: datetime) -> str | None:
        """Exclude the best strategy of a domain until a time; the next one. None without another one."""
        best = self.chooser.best(domain)
        if len(self.chooser.strategies(domain)) < 2 or self.chooser.frozen(domain) is not None:
            return None
        self._change(StrategySwitch(name="barred", domain=domain, strategy=best, until=until))
        return self.chooser.best(domain)

    def _change(self, switch: StrategySwitch) -> None:
        place = switch.name, switch.domain
        self._switches[place] = self._changed[place] = switch
        self.chooser.load_switches(tuple(self._switches.values()))

    def _end(self, name: SwitchName, domain: str) -> None:
        self._switches.pop((name, domain), None)
        self._changed[name, domain] = None
        self.chooser.load_switches(tuple(self._switches.values()))

    # The store -------------------------------------------------------------------------------

    async def sync(self) -> None:
        """Store new rows, and read those of all processes. After a failure, the next call repeats it."""
        if self._store is None:
            return
        try:
            await self._store_switches(self._store)
            await self._store_tallies(self._store)
            state = await self._store.strategies(self._tenant_id)
        except KarenLearnerError:
            logger.exception("strategies of %r cannot be stored: trying again", self._tenant_id)
            return
        with self.lock:
            self._load(state)

    def _load(self, state: StrategyState) -> None:
        self._tallies.load(state)
        self._switches = {(one.name, one.domain): one for one in state.switches}
        self._switches |= {key: one for key, one in self._changed.items() if one is not None}
        self.chooser.load_switches(tuple(self._switches.values()))

    async def _store_tallies(self, store: StrategyStore) -> None:
        with self.lock:
            new = self._tallies.take_unstored()
        if not new:
            return
        try:
            half_life = self._tallies.half_life_s
            await store.add_strategy_tallies(self._tenant_id, new, half_life_s=half_life)
        except KarenLearnerError:
            with self.lock:
                self._tallies.give_back(new)
            raise

    async def _store_switches(self, store: StrategyStore) -> None:
        for (name, domain), switch in list(self._changed.items()):
            if switch is None:
                await store.end_strategy_switch(self._tenant_id, name, domain)
            else:
                await store.put_strategy_switch(self._tenant_id, switch)
            if self._changed.get((name, domain)) is switch:
                del self._changed[name, domain]
