"""Adapters for hosts: chat products that have a memory and an analyzer of their own."""

from karen_learner.integrations.analyzers import HostAnalyzer, as_analyzer
from karen_learner.integrations.memories import WebUIMemory, as_host_memory

__all__ = ["HostAnalyzer", "WebUIMemory", "as_analyzer", "as_host_memory"]
