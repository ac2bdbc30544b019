"""Where everything lies below `home`. Tenant ids never become paths as they come."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from karen_learner.records import ModelVersion
from karen_learner.settings import PathSettings

READABLE_CHARS = 40


def tenant_folder(tenant_id: str) -> str:
    """A folder name for any tenant id: what is readable of it, and a hash that tells it from others."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", tenant_id).strip("-")[:READABLE_CHARS]
    digest = hashlib.blake2b(tenant_id.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return f"{readable}-{digest}" if readable else digest


class HomeLayout:
    """The folders of one home. `model_backups` may be given on its own."""

    def __init__(self, home: Path, paths: PathSettings, *, model_backups: Path | None = None) -> None:
        self.home = home.absolute()
        self._models = self.home / paths.models
        self._backups = (model_backups or self.home / paths.model_backups).absolute()
        self._corpus = self.home / paths.corpus

    @property
    def database(self) -> Path:
        return self.home / "karen.db"

    def models(self, tenant_id: str) -> Path:
        """The folder of a tenant's versions."""
        return self._models / tenant_folder(tenant_id)

    def version(self, tenant_id: str, version: str) -> Path:
        return self.models(tenant_id) / version

    def staging(self, tenant_id: str, cycle_id: str) -> Path:
        """Where a candidate stands until it is deployed. A folder here that no cycle owns is rubbish."""
        return self.models(tenant_id) / ".staging" / cycle_id

    def placed(self, version: ModelVersion) -> ModelVersion:
        """The version with the paths it has in this home: homes are copied and moved."""
        moved = {"path": self.version(version.tenant_id, version.version)}
        if version.backup_path is not None:
            moved["backup_path"] = self.backups(version.tenant_id) / version.backup_path.name
        return version.model_copy(update=moved)

    def base(self, name: str) -> Path:
        """A copy of the pipeline that new tenants start from."""
        return self._models / ".base" / tenant_folder(name)

    def backups(self, tenant_id: str) -> Path:
        return self._backups / tenant_folder(tenant_id)

    def corpora(self, tenant_id: str) -> Path:
        """The folder of a tenant's cycles, each with its corpora."""
        return self._corpus / tenant_folder(tenant_id)

    def corpus(self, tenant_id: str, cycle_id: str) -> Path:
        return self.corpora(tenant_id) / cycle_id
