"""Which persona answers, by what the user wants and how they feel."""

from __future__ import annotations

from karen_learner.errors import SettingsError
from karen_learner.settings import PersonaSettings

ANY = "*"


class PersonaRules:
    """Rules `<intent>/<sentiment> = persona`, where `*` stands for any; the most specific one wins.

    The order is: both given, the intent given, the sentiment given, neither, the default. Raises
    SettingsError for a rule that is not of that form.
    """

    def __init__(self, settings: PersonaSettings) -> None:
        self._default = settings.default
        self._rules = dict(_parse(key, persona) for key, persona in settings.rules.items())

    def select(self, intent: str | None, sentiment: str | None) -> str:
        """The persona for a detected intent and sentiment; None is matched by `*` alone."""
        first = ANY if intent is None else intent
        second = ANY if sentiment is None else sentiment
        for key in ((first, second), (first, ANY), (ANY, second), (ANY, ANY)):
            if key in self._rules:
                return self._rules[key]
        return self._default


def _parse(key: str, persona: str) -> tuple[tuple[str, str], str]:
    # An intent may hold a slash of its own; a sentiment hardly does.
    intent, slash, sentiment = (part.strip() for part in key.rpartition("/"))
    if not (slash and intent and sentiment):
        raise SettingsError(
            f"the persona rule {key!r} is not of the form '<intent>/<sentiment>': write '*' for any, "
            f"for example '*/negative'"
        )
    if not persona.strip():
        raise SettingsError(f"the persona rule {key!r} names no persona")
    return (intent, sentiment), persona
