"""Settings: their types and bounds. Their defaults are in `configs/default.cfg`.

Layers, from lowest to highest priority: `default.cfg`, the user's `.cfg`, the environment
(`KAREN_LEARNING__MIN_DATA_THRESHOLD=20`), keyword overrides.
"""

from karen_learner.settings.loading import as_settings, load_settings, parse_value, shipped_configs
from karen_learner.settings.section import REMOVED, Section
from karen_learner.settings.sections import (
    FROM_ENVIRONMENT,
    Adjustment,
    AnalysisSettings,
    EmailTarget,
    Fallback,
    GateSettings,
    ImpactSettings,
    LearningSettings,
    MonitoringSettings,
    NotificationSettings,
    PathSettings,
    PersonaSettings,
    ReportSettings,
    ScheduleSettings,
    ServiceSettings,
    ServingSettings,
    Settings,
    StoreSettings,
    StrategySettings,
    StreamSettings,
    ThresholdSettings,
    TrainingSettings,
    TriggerSettings,
    TroubleshooterSettings,
    WebhookTarget,
)

__all__ = [
    "FROM_ENVIRONMENT",
    "REMOVED",
    "Adjustment",
    "AnalysisSettings",
    "EmailTarget",
    "Fallback",
    "GateSettings",
    "ImpactSettings",
    "LearningSettings",
    "MonitoringSettings",
    "NotificationSettings",
    "PathSettings",
    "PersonaSettings",
    "ReportSettings",
    "ScheduleSettings",
    "Section",
    "ServiceSettings",
    "ServingSettings",
    "Settings",
    "StoreSettings",
    "StrategySettings",
    "StreamSettings",
    "ThresholdSettings",
    "TrainingSettings",
    "TriggerSettings",
    "TroubleshooterSettings",
    "WebhookTarget",
    "as_settings",
    "load_settings",
    "parse_value",
    "shipped_configs",
]
