import pytest

from karen_learner.collection.turns import PersonaRules
from karen_learner.errors import SettingsError
from karen_learner.settings import PersonaSettings, load_settings


def rules(**kinds: str) -> PersonaRules:
    return PersonaRules(PersonaSettings(default="assistant", rules=kinds))


def test_the_most_specific_rule_wins():
    personas = rules(
        **{"billing/negative": "exact", "billing/*": "intent", "*/negative": "sentiment", "*/*": "any"}
    )
    assert personas.select("billing", "negative") == "exact"
    assert personas.select("billing", "positive") == "intent"
    assert personas.select("other", "negative") == "sentiment"
    assert personas.select("other", "positive") == "any"
    assert personas.select(None, None) == "any"
    assert personas.select(None, "negative") == "sentiment"


def test_without_a_matching_rule_the_default_is_selected():
    assert rules().select("billing", "negative") == "assistant"
    assert PersonaRules(load_settings(environment={}).personas).select("x", "negative") == "empathetic"


def test_an_intent_may_contain_a_slash():
    assert rules(**{"billing/refund/negative": "calm"}).select("billing/refund", "negative") == "calm"


@pytest.mark.parametrize("key", ["negative", "/negative", "billing/", "/", ""])
def test_a_rule_without_intent_or_sentiment_is_refused(key):
    with pytest.raises(SettingsError, match="not of the form"):
        rules(**{key: "calm"})


def test_a_rule_without_persona_is_refused():
    with pytest.raises(SettingsError, match="names no persona"):
        rules(**{"*/*": " "})
