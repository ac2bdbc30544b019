"""Remove texts of examples, and counts of self-training, from the results of cycles."""

import sqlalchemy as sa
from alembic import op

from karen_learner.memory.types import Json

revision = "0006"
down_revision = "0005"

PAGE = 100

cycles = sa.table("cycles", sa.column("seq", sa.BigInteger), sa.column("result", Json))


def upgrade() -> None:
    _remove_from_confusions("texts")


def _remove_from_confusions(name: str) -> None:
    connection, after = op.get_bind(), 0
    finished = sa.select(cycles).where(cycles.c.result.is_not(None)).order_by(cycles.c.seq).limit(PAGE)
    update = cycles.update().where(cycles.c.seq == sa.bindparam("number")).values(result=sa.bindparam("new"))
    while page := connection.execute(finished.where(cycles.c.seq > after)).all():
        for _, result in page:
            result.pop("self_labelled_turns", None)
            for scores in filter(None, (result.get("baseline"), result.get("validation"))):
                for confusion in scores.get("errors", ()):
                    confusion.pop(name, None)
        connection.execute(update, [{"number": seq, "new": result} for seq, result in page])
        after = page[-1].seq
