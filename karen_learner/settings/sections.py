"""All sections of the settings: their types and bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, field_validator
from pydantic_core import to_jsonable_python

from karen_learner.errors import SettingsError
from karen_learner.settings.section import Section, refuse_unknown

PASSWORD = re.compile(r"(?<=:)(?<!//)[^/:@][^/@]*(?=@)|(?<=password=)[^&]*")
"""The password of a database URL."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0.0, le=1e9)]
Days = Annotated[float, Field(ge=0.0, le=36_500.0)]
Fallback = Literal["none", "rules"]
FROM_ENVIRONMENT = "env:"
"""Begin of a secret that is the name of an environment variable."""
EMAIL_ADDRESS = r"^[^\s@<>,;:\"\\]+@[A-Za-z0-9.-]+$"


def _split_names(value: Any) -> Any:
    """Names with commas between them, as in `spacy train --code`, as a list; other values unchanged."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


class StoreSettings(Section):
    """The password of `url` is hidden in the representation of the settings."""

    url: str
    queue_size: Count
    max_batch: Count
    busy_timeout_s: Seconds
    page_size: Count
    log_retention_days: Annotated[float, Field(gt=0.0, le=36_500.0)]

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, PASSWORD.sub("***", value) if name == "url" else value


class PathSettings(Section):
    models: str
    model_backups: str
    corpus: str


class ThresholdSettings(Section):
    """Minimum scores. `policy` defines their use while the champion does not reach them."""

    accuracy: Share
    intent_accuracy: Share
    sentiment_accuracy: Share
    entity_accuracy: Share
    policy: Literal["ratchet", "strict"]


class LearningSettings(Section):
    """`validation_threshold` is another name of `thresholds.accuracy`."""

    min_data_threshold: Count
    quality_threshold: Share
    meaning_quorum: Annotated[int, Field(ge=2)]
    max_training_examples: Count
    sampler: Annotated[str, Field(min_length=1)]
    replay_examples: Annotated[int, Field(ge=0)]
    max_full_examples: Count
    full_growth: Annotated[float, Field(ge=0.0)]
    refit_below: Annotated[int, Field(ge=0)]
    backup_retention_days: Days
    corpus_retention_days: Days
    retention_bytes: Annotated[int, Field(ge=0)]
    lease_ttl_s: Seconds

    _thresholds: ThresholdSettings | None = PrivateAttr(default=None)

    @property
    def validation_threshold(self) -> float:
        return self._bound_thresholds.accuracy

    @validation_threshold.setter
    def validation_threshold(self, value: float) -> None:
        self._bound_thresholds.accuracy = value

    @property
    def _bound_thresholds(self) -> ThresholdSettings:
        if self._thresholds is None:
            raise SettingsError("validation_threshold needs complete settings: use load_settings")
        return self._thresholds

    def __copy__(self) -> Self:
        copy = super().__copy__()
        copy._thresholds = self._thresholds and self._thresholds.model_copy()
        return copy

    def _names(self) -> set[str]:
        return super()._names() | {"validation_threshold"}


class TrainingSettings(Section):
    n_iter: Count
    batch_size: Count
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    learn_rate: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    continuing_n_iter: Count
    continuing_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    false_alarm_rate: Annotated[float, Field(ge=0.0, lt=1.0)]
    validation_split: Annotated[float, Field(ge=0.1, le=0.5)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    min_updates: Annotated[int, Field(ge=0)]
    time_limit_s: Seconds
    worker_idle_s: Seconds
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
    pipeline: str
    imports: Annotated[tuple[str, ...], BeforeValidator(_split_names)]


class GateSettings(Section):
    """Gates by name, and the budgets of a model; a budget of 0 is none."""

    judged_texts: Count
    gates: tuple[str, ...]
    max_model_bytes: Annotated[int, Field(ge=0)]
    max_ms_per_text: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class AnalysisSettings(Section):
    max_text_chars: Annotated[int, Field(ge=1, le=1_000_000)]  # the limit of spaCy
    max_response_chars: Count
    max_batch: Count
    queue_size: Count
    timeout_s: Seconds
    live_models: Count
    live_models_bytes: Count
    fallback: Fallback


class ServingSettings(Section):
    refresh_s: Seconds


class MonitoringSettings(Section):
    """Readings by name, and the window from which they are computed."""

    readings: tuple[str, ...]
    window_days: Annotated[float, Field(gt=0.0, le=365.0)]
    recent_turns: Count
    recent_outcomes: Count


TargetSeverity = Literal["warning", "critical"]
SecretText = Annotated[SecretStr, Field(min_length=1)]


class WebhookTarget(Section):
    """A target over HTTP: JSON with a signature if it has a `secret`, or the format of Slack or Discord.

    `url` and `secret` may be `env:NAME`: the value of an environment variable, read at each delivery.
    """

    kind: Literal["webhook", "slack", "discord"]
    url: SecretText
    secret: SecretText | None = None
    severity: TargetSeverity = "warning"
    allow_private: bool = False
    allow_redirects: bool = False

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: SecretStr) -> SecretStr:
        value = url.get_secret_value()
        if not value.startswith(FROM_ENVIRONMENT) and not re.fullmatch(r"https?://[^/@\s]+(/\S*)?", value):
            raise ValueError("it must be an URL with https:// or http://, without a user name, or env:NAME")
        return url


class EmailTarget(Section):
    """A target over SMTP. `password` may be `env:NAME`, as in `WebhookTarget`."""

    kind: Literal["email"]
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")]
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: SecretText | None = None
    sender: Annotated[str, Field(pattern=EMAIL_ADDRESS)]
    recipients: Annotated[
        tuple[Annotated[str, Field(pattern=EMAIL_ADDRESS)], ...],
        BeforeValidator(_split_names),
        Field(min_length=1, max_length=100),
    ]
    severity: TargetSeverity = "warning"
    allow_private: bool = False


NotificationTarget = Annotated[WebhookTarget | EmailTarget, Field(discriminator="kind")]
TargetName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]


class NotificationSettings(Section):
    """Targets of notifications by name, and the rates of delivery."""

    ordered = (("retry_s", "max_retry_s"),)
    group_s: Annotated[float, Field(ge=0.0, le=86_400.0)]
    max_per_hour: Count
    repeat_hours: Annotated[float, Field(gt=0.0, le=8_760.0)]
    timeout_s: Seconds
    retry_s: Seconds
    max_retry_s: Seconds
    give_up_days: Annotated[float, Field(gt=0.0, le=365.0)]
    targets: dict[TargetName, NotificationTarget]


class TriggerSettings(Section):
    """The condition tree of learning cycles (see `autonomy/triggers/tree.py`), and the choice of the mode."""

    tick_s: Seconds
    condition: dict[str, Any]
    major_rise: Share
    full_after: Count


class ScheduleSettings(Section):
    """Cron expressions for cycles and for full trainings of every tenant; "" is none."""

    cron: str
    full_cron: str
    zone: str


class ImpactSettings(Section):
    """Measurement of the effects of deployments."""

    holdback_share: Annotated[float, Field(ge=0.0, le=0.5)]
    window_days: Annotated[int, Field(ge=1, le=365)]
    metric: Literal["accuracy", "rating", "correction_rate", "fallback_rate"]
    answer_value: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class ReportSettings(Section):
    """Reports of the autonomous service: cron expressions by period; "" is none."""

    weekly_cron: str
    monthly_cron: str
    quarterly_cron: str
    zone: str
    kind: Literal["executive", "technical"]
    formats: list[Literal["html", "pdf", "json", "csv"]]
    currency: Annotated[str, Field(max_length=10)]
    max_load: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    retention_days: Days


class ServiceSettings(Section):
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=0, le=65_535)]
    workers: Count
    max_body_bytes: Count
    body_timeout_s: Seconds
    requests_per_s: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    max_streams: Count
    audit_retention_days: Days
    tenant_metrics: bool


class PersonaSettings(Section):
    default: Annotated[str, Field(min_length=1)]
    rules: dict[str, str]


class StrategySettings(Section):
    """`domains` maps a domain to the names of its strategies, the safe default first."""

    ordered = (("timeout_min_s", "timeout_max_s"),)
    half_life_s: Seconds
    max_exploration: Share
    borrowed_attempts: Annotated[float, Field(ge=0.0, le=1e6)]
    default: Annotated[str, Field(min_length=1, max_length=200)]
    frozen: bool
    timeout_min_s: Seconds
    timeout_max_s: Seconds
    retries_max: Annotated[int, Field(ge=0, le=100)]
    concurrency_max: Count
    pool_max: Count
    domains: dict[str, Annotated[tuple[str, ...], BeforeValidator(_split_names), Field(min_length=1)]]


class StreamSettings(Section):
    """Kafka. `kafka` has further settings of librdkafka. The password is hidden in the representation."""

    servers: str
    topic: Annotated[str, Field(min_length=1, max_length=249)]
    tenant: str
    group: str
    dead_letter_topic: str
    max_waiting: Count
    retention_days: Days
    security_protocol: Literal["", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    ssl_ca: str
    ssl_certificate: str
    ssl_key: str
    sasl_mechanism: str
    sasl_username: str
    sasl_password: str
    kafka: dict[str, str | int | float | bool]

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, "***" if name == "sasl_password" and value else value


class TroubleshooterSettings(Section):
    """Diagnoses by name (none: all), and the pace of remedies."""

    diagnoses: tuple[str, ...]
    interval_s: Seconds
    retry_s: Seconds
    max_attempts: Count
    keep_days: Annotated[float, Field(gt=0.0, le=365.0)]
    stall_minutes: Annotated[float, Field(gt=0.0, le=10_000.0)]


class Adjustment(NamedTuple):
    """Values of settings by dotted name, for one tenant or for all (None): before a change, and after it."""

    tenant_id: str | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]


class Settings(Section):
    """All sections, made by `load_settings`. Change the settings of a section, not the section.

    `adjust` changes values for one tenant, until `end_adjustment`; `of` returns the settings of a tenant.
    """

    model_config = ConfigDict(frozen=True)

    store: StoreSettings
    paths: PathSettings
    learning: LearningSettings
    training: TrainingSettings
    thresholds: ThresholdSettings
    gate: GateSettings
    analysis: AnalysisSettings
    serving: ServingSettings
    monitoring: MonitoringSettings
    triggers: TriggerSettings
    schedule: ScheduleSettings
    impact: ImpactSettings
    reports: ReportSettings
    service: ServiceSettings
    personas: PersonaSettings
    strategies: StrategySettings
    notifications: NotificationSettings
    stream: StreamSettings
    troubleshooter: TroubleshooterSettings

    _adjustments: tuple[Adjustment, ...] = PrivateAttr(default=())

    def model_post_init(self, _context: Any) -> None:
        self.learning._thresholds = self.thresholds

    def adjust(self, one: Adjustment) -> None:
        """Change values for a tenant. Raises SettingsError, with nothing changed."""
        for name, value in one.after.items():
            self._section_of(name).model_copy().update({name.partition(".")[2]: value})
        if one not in self._adjustments:
            self._adjustments = (*self._adjustments, one)

    def end_adjustment(self, one: Adjustment) -> None:
        """Return to the values before an adjustment. One that is not there is no error."""
        self._adjustments = tuple(known for known in self._adjustments if known != one)

    def of(self, tenant_id: str | None) -> Settings:
        """The settings of a tenant. A value that a person has changed since an adjustment stays."""
        found = self
        for one in self._adjustments:
            if one.tenant_id in (None, tenant_id):
                found = found._adjusted(one)
        return found

    def value(self, name: str) -> Any:
        """The value of a setting by its dotted name, in JSON types. Raises SettingsError."""
        key = name.partition(".")[2]
        section = self._section_of(name)
        refuse_unknown(type(section).__name__, (key,), section._names())
        return to_jsonable_python(getattr(section, key))

    def _section_of(self, name: str) -> Section:
        section = name.partition(".")[0]
        refuse_unknown("the settings", (section,), self._names())
        found: Section = getattr(self, section)
        return found

    def _adjusted(self, one: Adjustment) -> Settings:
        changed: dict[str, Section] = {}
        for name, value in one.after.items():
            section, _, key = name.partition(".")
            if self.value(name) == one.before.get(name):
                changed.setdefault(section, getattr(self, section).model_copy()).update({key: value})
        return self.model_copy(update=changed) if changed else self

    def dump(self) -> dict[str, Any]:
        """The settings in JSON types, with asterisks in place of secrets."""
        return self.model_dump(mode="json")
