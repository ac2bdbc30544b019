"""Every setting has one default, one meaning, and bounds that hold in every layer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from confection import Config
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.settings import (
    REMOVED,
    Section,
    Settings,
    as_settings,
    load_settings,
    parse_value,
    shipped_configs,
)

DOCS = Path(__file__).parent.parent / "docs" / "settings.md"
SELF_EXPLAINING = {
    "store.busy_timeout_s", "paths.model_backups", "paths.corpus", "training.batch_size",
    "training.dropout", "training.learn_rate", "training.seed", "thresholds.accuracy",
    "thresholds.intent_accuracy", "thresholds.sentiment_accuracy", "thresholds.entity_accuracy",
    "analysis.max_text_chars", "analysis.max_response_chars", "personas.default",
    "personas.rules",
}  # fmt: skip
"""Settings without a comment: the name or the comment of the setting before explains them."""


def load(**options: Any) -> Settings:
    return load_settings(**{"environment": {}, **options})


def shipped() -> dict[str, Any]:
    return dict(Config().from_disk(shipped_configs() / "default.cfg", interpolate=True))


def all_names() -> list[str]:
    return [
        f"{section}.{name}"
        for section, kind in Settings.model_fields.items()
        for name in kind.annotation.model_fields  # type: ignore[union-attr]
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "my.cfg"


# Defaults ---------------------------------------------------------------------------------------


def test_default_cfg_has_every_setting_of_the_schema_and_no_other() -> None:
    found = [f"{section}.{name}" for section, keys in shipped().items() for name in keys]
    assert sorted(found) == sorted(all_names())


def test_the_schema_has_no_defaults() -> None:
    for kind in (Settings, *(field.annotation for field in Settings.model_fields.values())):
        assert issubclass(kind, Section)  # type: ignore[arg-type]
        assert all(field.is_required() for field in kind.model_fields.values())  # type: ignore[union-attr]


def test_defaults_are_loaded_unchanged() -> None:
    assert load().dump() == json.loads(json.dumps(shipped()))


@pytest.mark.parametrize("name", all_names())
def test_every_setting_is_explained(name: str) -> None:
    section, key = name.split(".")
    lines = (shipped_configs() / "default.cfg").read_text(encoding="utf-8").splitlines()
    section_at = lines.index(f"[{section}]")
    at = next(
        at for at in range(section_at, len(lines)) if re.match(rf"{key} =|\[{section}\.{key}\]", lines[at])
    )
    assert lines[at - 1].startswith("#") or name in SELF_EXPLAINING


@pytest.mark.parametrize("name", all_names())
def test_every_setting_is_in_the_documentation_with_its_default(name: str) -> None:
    section, key = name.split(".")
    row = re.search(rf"^\| `{re.escape(name)}` \| (.+?) \| (.+) \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    assert row, f"{name} is not in docs/settings.md"
    documented = [json.loads(value.partition(" = ")[2] or value) for value in re.findall(r"`(.+?)`", row[1])]
    value = shipped()[section][key]
    assert documented == (list(value.values()) if isinstance(value, dict) else [value])
    assert len(row[2]) > 10


def test_the_documentation_has_no_unknown_setting() -> None:
    named = re.findall(r"^\| `([a-z]+\.\w+)` \|", DOCS.read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(all_names())


# Layers -----------------------------------------------------------------------------------------


def test_each_layer_overrides_the_lower_ones(file: Path) -> None:
    file.write_text("[learning]\nmin_data_threshold = 1\nreplay_examples = 1\nmax_full_examples = 1\n")
    environment = {"KAREN_LEARNING__REPLAY_EXAMPLES": "2", "KAREN_LEARNING__MAX_FULL_EXAMPLES": "2"}
    found = load(path=file, environment=environment, overrides={"learning.max_full_examples": 3}).learning
    assert (found.min_data_threshold, found.replay_examples, found.max_full_examples) == (1, 2, 3)
    assert found.refit_below == shipped()["learning"]["refit_below"]


def test_overrides_come_as_sections_as_well() -> None:
    found = load(
        overrides={"learning": {"refit_below": 5}, "learning.max_full_examples": 6, "thresholds": {}}
    )
    assert (found.learning.refit_below, found.learning.max_full_examples) == (5, 6)


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAREN_TRAINING__N_ITER", "7")
    monkeypatch.setenv("KAREN_HOME", "not a setting")
    assert load_settings().training.n_iter == 7
    assert load_settings(environment={}).training.n_iter == 10


def test_values_are_parsed_as_json_or_text() -> None:
    assert [parse_value(raw) for raw in ("3", "0.5", "true", "strict", '"3"', "", "{")] == [
        3, 0.5, True, "strict", "3", "", "{",
    ]  # fmt: skip
    environment = {"KAREN_PERSONAS__RULES": '{"travel/*": "guide"}', "KAREN_THRESHOLDS__POLICY": "strict"}
    found = load(environment=environment)
    assert found.personas.rules == {"travel/*": "guide"}
    assert found.thresholds.policy == "strict"


def test_settings_loaded_twice_are_independent() -> None:
    one, other = load(), load()
    one.learning.refit_below = 1
    one.personas.rules["a/b"] = "c"
    assert other == load()


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "near"),
    [
        ({"learning.min_data_treshold": 1}, r"'min_data_treshold' in \[learning\].*'min_data_threshold'"),
        ({"lerning.dev_cap": 1}, "'lerning' in the overrides.*'learning'"),
        ({"learning.validation_treshold": 1}, "did you mean"),
        ({"dev_cap": 1}, "write 'section.key'"),
        ({"learning": 1}, "write 'section.key'"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(overrides: dict[str, Any], near: str) -> None:
    with pytest.raises(SettingsError, match=near):
        load(overrides=overrides)


def test_unknown_keys_are_reported_with_their_layer(file: Path) -> None:
    file.write_text("[training]\nepochs = 3\n")
    with pytest.raises(SettingsError, match=r"'epochs' in \[training\] in the settings file"):
        load(path=file)
    with pytest.raises(SettingsError, match=r"'n_itre' in \[training\] in the environment.*'n_iter'"):
        load(environment={"KAREN_TRAINING__N_ITRE": "3"})


@pytest.mark.parametrize("name", sorted(REMOVED))
def test_a_removed_setting_is_refused_with_advice_in_every_way_to_set_it(name: str, file: Path) -> None:
    advice = rf"'{name}' in .*removed: {re.escape(REMOVED[name])}"
    file.write_text(f"[learning]\n{name} = 1\n")
    settings = load()
    with pytest.raises(SettingsError, match=advice):
        load(path=file)
    with pytest.raises(SettingsError, match=advice):
        load(environment={f"KAREN_TRAINING__{name.upper()}": "1"})
    with pytest.raises(SettingsError, match=advice):
        settings.gate.update({name: 1})
    with pytest.raises(SettingsError, match=advice):
        setattr(settings.gate, name, 1)
    assert settings == load()


def test_removed_settings_do_not_exist_and_their_advice_names_settings_that_do() -> None:
    names = all_names()
    assert not REMOVED.keys() & {name.split(".")[1] for name in names}
    named = {name for advice in REMOVED.values() for name in re.findall(r"\b[a-z]+\.[a-z_]+\b", advice)}
    assert named
    assert named <= set(names)


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_a_share_that_gives_no_number_of_folds_is_explained(share: float) -> None:
    with pytest.raises(SettingsError, match="1 / K"):
        load(overrides={"training.validation_split": share})
    with pytest.raises(SettingsError, match="1 / K"):
        load().training.validation_split = share


def test_an_unreadable_file_is_reported(tmp_path: Path, file: Path) -> None:
    file.write_text("no sections here\n")
    for path in (file, tmp_path / "missing.cfg", tmp_path):
        with pytest.raises(SettingsError, match=re.escape(str(path))):
            load(path=path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning.quality_threshold", 1.1),
        ("learning.quality_threshold", float("nan")),
        ("learning.min_data_threshold", 0),
        ("learning.min_data_threshold", "many"),
        ("learning.lease_ttl_s", float("inf")),
        ("learning.backup_retention_days", 1e12),
        ("learning.corpus_retention_days", -1),
        ("training.dropout", 1.0),
        ("training.learn_rate", float("inf")),
        ("training.seed", -1),
        ("training.language", "English"),
        ("thresholds.policy", "lenient"),
        ("serving.refresh_s", 0),
        ("gate.max_ms_per_text", float("nan")),
        ("analysis.live_models", 0),
        ("analysis.live_models_bytes", 0),
        ("personas.default", ""),
    ],
)
def test_values_out_of_bounds_are_refused_in_every_way_to_set_them(name: str, value: Any) -> None:
    section, key = name.split(".")
    with pytest.raises(SettingsError, match=key):
        load(overrides={name: value})
    settings = load()
    with pytest.raises(SettingsError, match=key):
        setattr(getattr(settings, section), key, value)
    with pytest.raises(SettingsError, match=key):
        getattr(settings, section).update({key: value})
    assert settings == load()


def test_settings_errors_are_value_errors_of_ours() -> None:
    assert issubclass(SettingsError, InvalidInput)
    with pytest.raises(ValueError, match="thresholds"):
        load(overrides={"tresholds.accuracy": 1})


def test_an_unknown_setting_cannot_be_assigned() -> None:
    with pytest.raises(SettingsError, match="min_data_treshold"):
        load().learning.min_data_treshold = 5  # type: ignore[attr-defined]


def test_a_whole_section_cannot_be_replaced() -> None:
    settings = load()
    with pytest.raises(SettingsError, match="frozen"):
        settings.thresholds = load().thresholds
    assert settings.learning.validation_threshold == settings.thresholds.accuracy


# update -----------------------------------------------------------------------------------------


def test_update_changes_several_at_once() -> None:
    settings = load()
    settings.learning.update({"min_data_threshold": 5, "full_growth": 0.3})
    assert (settings.learning.min_data_threshold, settings.learning.full_growth) == (5, 0.3)


@given(
    st.permutations(
        [("min_data_threshold", 5), ("full_growth", 0.3), ("validation_threshold", 0.4), ("refit_below", -1)]
    )
)
def test_update_is_all_or_nothing_in_any_order(pairs: list[tuple[str, Any]]) -> None:
    settings = load()
    with pytest.raises(SettingsError, match="refit_below"):
        settings.learning.update(dict(pairs))
    assert settings == load()


def test_update_with_an_unknown_key_changes_nothing() -> None:
    settings = load()
    with pytest.raises(SettingsError, match="did you mean 'refit_below'"):
        settings.learning.update({"full_growth": 0.3, "refit_belov": 3})
    assert settings == load()


CONTRADICTIONS = [
    ("notifications.retry_s", 1e6, "is above max_retry_s"),
    ("strategies.timeout_max_s", 1e-9, "is above timeout_max_s"),
]


@pytest.mark.parametrize(("name", "value", "message"), CONTRADICTIONS)
def test_contradicting_settings_are_refused_and_change_nothing(name: str, value: float, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(overrides={name: value})
    settings = load()
    section, key = name.split(".")
    with pytest.raises(SettingsError, match=message):
        setattr(getattr(settings, section), key, value)
    with pytest.raises(SettingsError, match=message):
        getattr(settings, section).update({key: value})
    assert settings == load()


@given(st.permutations([("timeout_min_s", 1e6), ("timeout_max_s", 2e6)]))
def test_settings_that_agree_may_change_together(pairs: list[tuple[str, Any]]) -> None:
    settings = load()
    settings.strategies.update(dict(pairs))
    assert settings.strategies.timeout_min_s == 1e6


@pytest.mark.parametrize(("name", "value"), [("min_data_threshold", 10**9), ("max_training_examples", 3)])
def test_a_threshold_that_no_cycle_reaches_is_allowed(name: str, value: int) -> None:
    settings = load(overrides={f"learning.{name}": value})
    assert getattr(settings.learning, name) == value


# validation_threshold ---------------------------------------------------------------------------


def test_validation_threshold_is_another_name_of_the_accuracy_threshold(file: Path) -> None:
    settings = load()
    settings.learning.validation_threshold = 0.6
    assert settings.thresholds.accuracy == 0.6
    settings.thresholds.accuracy = 0.5
    assert settings.learning.validation_threshold == 0.5
    settings.learning.update({"validation_threshold": 0.4})
    assert settings.thresholds.accuracy == 0.4
    with pytest.raises(SettingsError, match="accuracy"):
        settings.learning.validation_threshold = 2.0
    file.write_text("[learning]\nvalidation_threshold = 0.3\n")
    assert load(path=file).thresholds.accuracy == 0.3
    assert load(environment={"KAREN_LEARNING__VALIDATION_THRESHOLD": "0.2"}).thresholds.accuracy == 0.2
    assert load(overrides={"learning.validation_threshold": 0.1}).thresholds.accuracy == 0.1


def test_the_highest_layer_of_both_names_wins(file: Path) -> None:
    file.write_text("[learning]\nvalidation_threshold = 0.3\n")
    assert load(path=file, overrides={"thresholds.accuracy": 0.6}).thresholds.accuracy == 0.6


def test_validation_threshold_needs_complete_settings() -> None:
    alone = type(load().learning).model_validate(shipped()["learning"])
    with pytest.raises(SettingsError, match="complete settings"):
        _ = alone.validation_threshold


def test_changes_of_a_copy_leave_the_thresholds_unchanged() -> None:
    settings = load_settings(environment={})
    copy = settings.learning.model_copy()
    copy.validation_threshold = 0.1
    assert copy.validation_threshold == 0.1
    assert settings.thresholds.accuracy == settings.learning.validation_threshold == 0.85


def test_dumped_settings_can_be_loaded_again() -> None:
    settings = load(overrides={"learning.validation_threshold": 0.5, "personas.rules": {"a/b": "c"}})
    assert load(overrides=settings.dump()) == settings


def test_overrides_of_loaded_settings_keep_other_values_of_a_section() -> None:
    loaded = load_settings(environment={}, overrides={"learning.quality_threshold": 0.5})
    for overrides in ({"learning": {"min_data_threshold": 5}}, {"learning.min_data_threshold": 5}):
        learning = as_settings(loaded, overrides=overrides).learning
        assert (learning.quality_threshold, learning.min_data_threshold) == (0.5, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[store]\n[learning]\n[store]\n", r"line 3: the section \[store\] is there already: move"),
        ("[personas.rules]\na = 1\n[store]\n[store]\n", r"line 4: the section \[store\]"),
        ("[training]\nn_iter = 1\nn_iter = 2\n", r"line 3: \[training\] has 'n_iter' already"),
        ("n_iter = 1\n", "before the first"),
        ("[training]\nn_iter\n", r"line +2\]"),
        ("[training]\nn_iter = ${no.such}\n", "interpolation"),
    ],
)
def test_a_file_that_is_no_settings_file_names_line_and_remedy(
    file: Path, content: str, message: str
) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as raised:
        load_settings(file, environment={})
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_settings_file_may_have_a_byte_order_mark(file: Path) -> None:
    file.write_text("[training]\nn_iter = 3\n", encoding="utf-8-sig")
    assert load_settings(file, environment={}).training.n_iter == 3


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:hunter2@db.example/karen",
        "postgresql+asyncpg://someone:hunter2@db.example:5432/karen?sslmode=require",
        "postgresql://db.example/karen?user=someone&password=hunter2",
    ],
)
def test_the_representation_hides_the_password_of_the_database(url: str) -> None:
    loaded = load_settings(overrides={"store.url": url}, environment={})
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in str(loaded.store)
    assert "db.example" in repr(loaded)
    assert loaded.store.url == url


def test_urls_without_a_password_are_shown_unchanged() -> None:
    for url in ("", "sqlite:////data/a:b.db", "postgresql://someone@db.example:5432/karen"):
        assert repr(url) in repr(load_settings(overrides={"store.url": url}, environment={}))


@pytest.mark.parametrize("given", ["a, b.py", ["a", "b.py"], '["a", "b.py"]'])
def test_imports_may_be_names_with_commas(given: object) -> None:
    value = parse_value(given) if isinstance(given, str) else given
    assert load_settings(overrides={"training.imports": value}, environment={}).training.imports == (
        "a",
        "b.py",
    )
