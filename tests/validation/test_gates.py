"""The verdict on a candidate, and each gate."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from karen_learner import registry
from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.records import Example, GateCheck, Verdict
from karen_learner.settings import Settings
from karen_learner.validation import Agreement, Anchor, Evidence, Prediction, gates, judge
from karen_learner.validation.gates.limits import holm
from tests.validation.evidences import evidence
from tests.validation.holdouts import gold, word

TEXTS = [gold(word(at), intent="billing") for at in range(300)]
INTENT = frozenset({"intent"})


def intents(right: int, *, texts: int = 300, shift: int = 0) -> list[Prediction]:
    """Predictions: `right` consecutive ones are correct, from position `shift`."""
    return [Prediction("billing" if (at - shift) % texts < right else "refund") for at in range(texts)]


def check(verdict: Verdict, name: str) -> GateCheck:
    return next(one for one in verdict.checks if one.name == name)


def test_a_better_candidate_is_accepted(settings: Settings) -> None:
    verdict = judge(evidence(TEXTS, intents(275), intents(255)), settings)

    assert (verdict.accepted, verdict.decision, verdict.harmful) == (True, "accepted", False)
    assert verdict.improved == ("intent",)
    assert verdict.alpha == 0.01
    found = check(verdict, "improved")
    assert found.detail.startswith("better: intent 0.850 -> 0.917 on 300 judged texts")
    assert found.interval is not None
    assert 0.0 < found.interval[0] < 20 / 300 < found.interval[1]
    assert found.statistic is not None
    assert found.threshold is not None
    assert found.statistic > found.threshold == pytest.approx(2.33, abs=0.01)


def test_a_small_gain_is_too_close(settings: Settings) -> None:
    verdict = judge(
        evidence(TEXTS, intents(262), intents(260), taught_labels={("intent", "billing")}), settings
    )

    assert (verdict.accepted, verdict.decision, verdict.harmful) == (False, "too_close", False)
    assert verdict.improved == ()
    assert verdict.missing is not None
    assert verdict.missing.startswith("about ")
    assert verdict.missing.endswith("more labelled texts of 'billing' would decide it")


def test_the_missing_texts_name_the_rarest_taught_label(settings: Settings) -> None:
    texts = [*TEXTS[:290], *(gold(word(at), intent="delivery") for at in range(290, 300))]
    labels = {("intent", "billing"), ("intent", "delivery")}

    found = evidence(texts, intents(262), intents(260), taught=INTENT, taught_labels=labels)
    assert "'delivery'" in (judge(found, settings).missing or "")


def test_without_a_positive_gain_no_number_of_texts_is_named(settings: Settings) -> None:
    verdict = judge(evidence(TEXTS, intents(260), intents(260)), settings)

    assert (verdict.decision, verdict.missing) == (
        "too_close",
        "the measured gain of intent is not positive (+0.000)",
    )


def test_without_risk_no_gain_is_shown(settings: Settings) -> None:
    verdict = judge(evidence(TEXTS, intents(300), intents(200), alpha=0.0), settings)

    assert verdict.decision == "too_close"
    assert "no new examples" in verdict.summary


def test_a_gain_of_another_task_is_no_gain(settings: Settings) -> None:
    found = evidence(TEXTS, intents(275), intents(255), taught=frozenset({"sentiment"}))

    verdict = judge(found, settings)
    assert verdict.decision == "too_close"
    assert "no taught task has judged gold texts" in verdict.summary


def test_two_taught_tasks_share_the_significance_level(settings: Settings) -> None:
    texts = [gold(word(at), intent="billing", sentiment="good") for at in range(300)]
    candidate = [Prediction(one.intent, "good") for one in intents(275)]
    champion = [Prediction(one.intent, "good") for one in intents(255)]

    both = check(judge(evidence(texts, candidate, champion), settings), "improved")
    assert both.threshold == pytest.approx(2.576, abs=0.001)


def test_a_worse_candidate_is_harmful(settings: Settings) -> None:
    verdict = judge(evidence(TEXTS, intents(250), intents(280)), settings)

    assert (verdict.accepted, verdict.decision, verdict.harmful) == (False, "worse", True)
    assert check(verdict, "intent_not_worse").detail == "intent 0.933 -> 0.833 on 300 judged texts: worse"


def test_a_loss_of_less_than_two_standard_errors_is_not_harmful(settings: Settings) -> None:
    verdict = judge(evidence(TEXTS, intents(275), intents(280)), settings)

    assert (verdict.decision, verdict.harmful) == ("worse", False)  # 0.5 ** 5 = 0.031


def test_a_pipe_without_training_is_not_tested(settings: Settings) -> None:
    texts = [gold(word(at), intent="billing", sentiment="good") for at in range(300)]
    candidate = [Prediction(one.intent, "bad") for one in intents(275)]
    champion = [Prediction(one.intent, "good") for one in intents(255)]

    found = evidence(texts, candidate, champion, taught=INTENT, trained=INTENT)
    names = {one.name for one in judge(found, settings).checks}
    assert "intent_not_worse" in names
    assert "sentiment_not_worse" not in names


def test_a_gain_in_one_task_does_not_compensate_a_loss_in_another(settings: Settings) -> None:
    texts = [gold(word(at), intent="billing", sentiment="good") for at in range(200)]
    champion = [Prediction("billing" if at < 180 else "x", "good" if at < 180 else "x") for at in range(200)]
    candidate = [Prediction("billing", "good" if at < 160 else "x") for at in range(200)]

    verdict = judge(evidence(texts, candidate, champion), settings)
    assert (verdict.accepted, verdict.harmful, verdict.improved) == (False, True, ("intent",))


def test_a_loss_of_one_label_is_shown(settings: Settings) -> None:
    texts = [gold(word(at), intent="billing" if at < 260 else "refund") for at in range(300)]
    champion = [Prediction("billing" if at < 200 else "x") for at in range(260)] + [Prediction("refund")] * 40
    candidate = [Prediction("billing")] * 260 + [Prediction("refund")] * 20 + [Prediction("billing")] * 20

    verdict = judge(evidence(texts, candidate, champion), settings)
    assert (verdict.decision, verdict.improved) == ("worse", ("intent",))
    assert "intent 'refund' 1.000 -> 0.500 on 40 judged texts" in check(verdict, "labels_not_worse").detail


def test_a_loss_of_an_entity_label_is_shown(settings: Settings) -> None:
    spans = [(0, 2, "PLAN") if at < 50 else (0, 2, "DATE") for at in range(100)]
    texts = [gold(word(at), entities=(span,)) for at, span in enumerate(spans)]
    champion = [Prediction(entities=(span,)) for span in spans]
    candidate = [Prediction(entities=(span,) if at >= 10 else ()) for at, span in enumerate(spans)]

    found = check(judge(evidence(texts, candidate, champion), settings), "labels_not_worse")
    assert not found.passed
    assert "entities 'PLAN'" in found.detail
    assert "DATE" not in found.detail


def test_holm_is_stepwise() -> None:
    class One:
        def __init__(self, p_worse: float) -> None:
            self.p_worse = p_worse

    ordered = [One(p) for p in (0.04, 0.012, 0.02, 0.3)]
    assert [one.p_worse for one in holm(ordered)] == [0.012]  # type: ignore[arg-type]
    assert [one.p_worse for one in holm([One(0.01), One(0.04)])] == [0.01, 0.04]  # type: ignore[arg-type]


class TestNewLabels:
    TEXTS = (*TEXTS[:200], *(gold(word(at), intent="gift") for at in range(200, 203)))
    NEW = frozenset({("intent", "gift")})

    def test_a_new_label_needs_no_gain(self, settings: Settings) -> None:
        champion = intents(180, texts=203)
        candidate = [*champion[:202], Prediction("gift")]
        found = evidence(self.TEXTS, candidate, champion, unknown_labels=self.NEW, taught_labels=self.NEW)

        verdict = judge(found, settings)
        assert (verdict.accepted, verdict.improved) == (True, ("intent",))
        assert check(verdict, "improved").detail == "new labels need no gain: 'gift'"

    def test_known_labels_must_not_be_worse(self, settings: Settings) -> None:
        champion = intents(180, texts=203)
        candidate = [*intents(170, texts=200), *[Prediction("gift")] * 3]
        found = evidence(self.TEXTS, candidate, champion, unknown_labels=self.NEW, taught_labels=self.NEW)

        assert judge(found, settings).decision == "worse"

    def test_a_forced_training_without_new_examples_needs_no_gain(self, settings: Settings) -> None:
        champion = intents(180, texts=203)
        found = evidence(self.TEXTS, champion, champion, taught_labels=frozenset())

        assert judge(found, settings).accepted
        worse = evidence(self.TEXTS, intents(150, texts=203), champion, taught_labels=frozenset())
        assert judge(worse, settings).decision == "worse"


class TestLikelihood:
    @staticmethod
    def sides(now: float, then: float, *, right: int = 270, before: int = 270) -> Evidence:
        rng = np.random.default_rng(5)
        noise = rng.uniform(-0.1, 0.1, size=300)
        return evidence(
            TEXTS,
            [
                Prediction(one.intent, of_gold={"intent": now + n})
                for one, n in zip(intents(right), noise, strict=True)
            ],
            [Prediction(one.intent, of_gold={"intent": then}) for one in intents(before)],
        )

    def test_a_higher_likelihood_at_equal_accuracy_is_a_gain(self, settings: Settings) -> None:
        verdict = judge(self.sides(0.7, 0.6), settings)

        assert (verdict.accepted, verdict.improved) == (True, ("intent",))
        assert "log-likelihood -0.511 -> " in check(verdict, "improved").detail
        assert not judge(self.sides(0.6, 0.7), settings).accepted

    def test_a_higher_likelihood_at_lower_accuracy_is_none(self, settings: Settings) -> None:
        assert judge(self.sides(0.9, 0.5, right=269), settings).decision == "too_close"

    def test_a_gain_below_three_standard_errors_is_none(self, settings: Settings) -> None:
        rng = np.random.default_rng(6)
        z = {}
        for gain in (0.005, 0.02):
            noise = rng.normal(gain, 0.05, size=300)
            candidate = [Prediction("billing", of_gold={"intent": 0.6 + n}) for n in noise]
            champion = [Prediction("billing", of_gold={"intent": 0.6})] * 300
            z[gain] = judge(evidence(TEXTS, candidate, champion), settings).accepted
        assert z == {0.005: False, 0.02: True}

    def test_only_texts_count_whose_label_both_models_know(self, settings: Settings) -> None:
        champion = [Prediction("billing", of_gold={"intent": 0.6})] * 270 + [Prediction("refund")] * 30
        candidate = [Prediction("billing", of_gold={"intent": 0.59})] * 270
        candidate += [Prediction("refund", of_gold={"intent": 0.3})] * 30

        assert not judge(evidence(TEXTS, candidate, champion), settings).accepted


class TestAnchor:
    @staticmethod
    def verdict(best: Sequence[Prediction], texts: Sequence[Example], settings: Settings) -> Verdict:
        """The verdict on a candidate that gains on the champion. `best` covers the first texts."""
        scored = evidence(texts, best, None).candidate
        anchors = {"intent": Anchor(version="v0003", by_task=scored.by_task)}
        return judge(evidence(TEXTS, intents(275), intents(255), anchors=anchors), settings)

    def test_a_candidate_below_the_best_version_is_worse(self, settings: Settings) -> None:
        verdict = self.verdict(intents(295), TEXTS, settings)

        assert (verdict.decision, verdict.improved) == ("worse", ("intent",))
        assert check(verdict, "intent_anchor").detail == (
            "intent since v0003 0.983 -> 0.917 on 300 judged texts: worse"
        )

    def test_the_best_version_is_compared_on_common_texts(self, settings: Settings) -> None:
        verdict = self.verdict(intents(200, texts=200), TEXTS[:200], settings)

        assert verdict.accepted
        assert (
            check(verdict, "intent_anchor").detail == "intent since v0003 1.000 -> 1.000 on 200 judged texts"
        )

    def test_an_anchor_with_fewer_than_half_of_the_texts_does_not_count(self, settings: Settings) -> None:
        verdict = self.verdict(intents(149, texts=149), TEXTS[:149], settings)

        assert "intent_anchor" not in {one.name for one in verdict.checks}


class TestThresholds:
    def test_a_threshold_that_the_champion_meets_must_be_met(self, settings: Settings) -> None:
        texts = [gold(word(at), intent="billing", sentiment="good") for at in range(200)]
        champion = [
            Prediction("billing" if at < 161 else "x", "good" if at < 170 else "x") for at in range(200)
        ]
        candidate = [Prediction("billing" if at < 159 else "x", "good") for at in range(200)]

        verdict = judge(evidence(texts, candidate, champion), settings)
        assert (verdict.accepted, verdict.decision, verdict.harmful) == (False, "refused", False)
        assert verdict.summary == (
            "intent_accuracy 0.795 is below its threshold of 0.800, which the champion meets with 0.805"
        )

    def test_a_threshold_that_the_champion_misses_may_be_missed(self, settings: Settings) -> None:
        verdict = judge(evidence(TEXTS, intents(200), intents(180)), settings)

        assert verdict.accepted
        assert check(verdict, "accuracy_threshold").detail == (
            "accuracy 0.667 is below its threshold of 0.850, which the champion (0.600) misses too"
        )

    def test_a_threshold_that_the_champion_misses_may_not_be_missed_by_more(self, settings: Settings) -> None:
        verdict = judge(evidence(TEXTS, intents(180), intents(200)), settings)

        assert "worse than the champion's 0.667" in check(verdict, "intent_accuracy_threshold").detail

    def test_strict_requires_all_thresholds(self, settings: Settings) -> None:
        settings.thresholds.update({"policy": "strict"})

        assert not judge(evidence(TEXTS, intents(200), intents(180)), settings).accepted
        assert judge(evidence(TEXTS, intents(290), intents(270)), settings).accepted


class TestAgreement:
    @pytest.mark.parametrize(("candidate", "passes"), [(0.90, True), (0.873, True), (0.85, False)])
    def test_agreement_may_fall_by_two_standard_errors(
        self, candidate: float, passes: bool, settings: Settings
    ) -> None:
        measured = Agreement(candidate=candidate, champion=0.9, texts=1000)  # standard error 0.014
        found = evidence(TEXTS, intents(275), intents(255), agreement=measured)

        assert judge(found, settings).accepted is passes


class TestBudgets:
    def test_a_model_above_a_budget_is_refused(self, settings: Settings) -> None:
        settings.gate.update({"max_model_bytes": 1000, "max_ms_per_text": 2.0})
        sides = TEXTS, intents(275), intents(255)

        assert judge(evidence(*sides, model_bytes=1000, ms_per_text=2.0), settings).accepted
        assert judge(evidence(*sides, model_bytes=1001, ms_per_text=2.0), settings).decision == "refused"
        assert "2.5 milliseconds" in judge(evidence(*sides, ms_per_text=2.5), settings).summary
        assert "not measured" in judge(evidence(*sides), settings).summary

    def test_a_budget_of_zero_is_none(self, settings: Settings) -> None:
        assert judge(evidence(TEXTS, intents(275), intents(255), model_bytes=10**12), settings).accepted


class TestComposition:
    def test_the_settings_name_the_gates(self, settings: Settings) -> None:
        settings.gate.gates = ("thresholds",)

        verdict = judge(evidence(TEXTS, intents(290), intents(290)), settings)
        assert verdict.accepted
        assert {one.name for one in verdict.checks} == {"accuracy_threshold", "intent_accuracy_threshold"}

    def test_a_package_adds_a_gate(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        here = EntryPoint("never", f"{__name__}:never", gates.GATES.group)
        broken = EntryPoint("broken", "karen_learner.nowhere:gate", gates.GATES.group)
        monkeypatch.setattr(registry, "entry_points", lambda group: [here, broken])
        monkeypatch.setattr(EntryPoint, "load", lambda entry: never if entry.name == "never" else 1 / 0)
        settings.gate.gates = ("improved", "never")

        verdict = judge(evidence(TEXTS, intents(275), intents(255)), settings)
        assert (verdict.decision, verdict.summary) == ("refused", "never")
        with pytest.raises(SettingsError, match="'broken'"):
            gates.GATES.find_all(["broken"])


def never(_evidence: Evidence, _settings: Settings) -> Sequence[GateCheck]:
    return (GateCheck(name="never", passed=False, detail="never"),)


def test_the_first_model_is_not_gated(settings: Settings) -> None:
    settings.thresholds.update({"policy": "strict"})
    verdict = judge(evidence(TEXTS, intents(3), None), settings)

    assert (verdict.accepted, verdict.decision, verdict.improved) == (True, "accepted", ("intent",))
    assert verdict.summary == "first model: deployed without a gate"


def test_without_judged_gold_a_candidate_is_refused(settings: Settings) -> None:
    corrections = [one.model_copy(update={"source": "correction"}) for one in TEXTS]

    for found in (evidence([], [], []), evidence(corrections, intents(300), intents(0))):
        verdict = judge(found, settings)
        assert (verdict.accepted, verdict.decision, verdict.harmful) == (False, "refused", False)
        assert verdict.summary == "no judged gold texts: add gold examples"


def test_evidence_must_be_consistent() -> None:
    with pytest.raises(InvalidInput, match="people of 1 texts"):
        evidence(TEXTS, intents(300), None, people=[()])
    found = evidence(TEXTS, intents(300), None)
    other = evidence(TEXTS[:10], intents(10, texts=10), None)
    with pytest.raises(InvalidInput, match="different texts"):
        Evidence(
            examples=found.examples,
            people=found.people,
            candidate=found.candidate,
            champion=other.candidate,
            risk=found.risk,
            taught=INTENT,
            trained=INTENT,
            taught_labels=frozenset(),
        )


def test_a_verdict_survives_json(settings: Settings) -> None:
    same = [gold("text 1", intent="billing"), gold("text 2", intent="billing")]  # one group: no interval

    for texts, right in ((TEXTS, 275), (same, 2)):
        sides = intents(right, texts=len(texts)), intents(1, texts=len(texts))
        verdict = judge(evidence(texts, *sides), settings)
        assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
