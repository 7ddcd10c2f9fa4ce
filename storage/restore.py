"""Bringing the private server back to a moment, from a base backup and the archived log after it.

The backup is unpacked and brought there beside the cluster, which works on meanwhile and stays as it is when
anything fails. Only a whole one takes its place, and the old one is kept.
"""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct, json

from market.errors import Unavailable, WrongUse
from market.timeframe import format_time, from_datetime, to_datetime
from storage import backup, server
from storage.backup import Report
from storage.base_backup import Backup, unpack
from storage.server import account, archive, binaries, cluster
from storage.server.archive import SEGMENT_BYTES
from storage.server.binaries import Binaries
from storage.server.layout import Layout, layout, make_home, make_private

_PASTS = "restores.jsonl"
_EVER = 4_102_444_800_000_000
_PATIENCE = 7 * 86_400.0
_ARCHIVING = 90.0
"""Seconds that a running server gets to archive what it wrote last."""
_LEFT = ("log", "start.log", "postmaster.opts", "deltatape_archive_failed", "deltatape_archive_lost")


class Past(Struct, frozen=True):
    """An earlier restore, which began a timeline: at `at`, on what stood there at `to` (microseconds UTC)."""

    at: int
    to: int
    timeline: int
    parent: int


class Restored(Struct, frozen=True):
    """What a restore gave.

    `reached` is when the last transaction that it holds was committed (microseconds UTC; None where the
    backup alone was enough); `aside` the folder that the old cluster was moved to, None without one.
    """

    url: str
    backup: str
    reached: int | None
    timeline: int
    aside: str | None
    is_archived: bool


def restore(
    home: Path,
    folder: Path,
    *,
    to: int | None = None,
    replace: bool = False,
    durable: bool = True,
    most_waiting_bytes: int = backup.MOST_WAITING_BYTES,
    report: Report,
) -> Restored:
    """Make the private server of `home` what it was at a moment, and start it.

    Everything that was committed up to `to` is there, and nothing later. Where the folder's backups are this
    home's, its log is archived there on a new timeline; elsewhere the server is a copy that archives nothing.

    Args:
        home: DELTATAPE_HOME.
        folder: of backups.
        to: microseconds UTC; None: everything that is archived.
        replace: a cluster that is there may be replaced; it is renamed, never removed.
        durable: as for `server.start`.
        most_waiting_bytes: as for `make_backup`.
        report: gets a line for each step that takes time.

    Raises:
        WrongUse: there is a cluster, or no backup reaches back to that moment.
        Unavailable: the backup or the archive is damaged or ends before that moment, or there is no room.
    """
    place = layout(home)
    if place.cluster.exists() and not replace:
        raise WrongUse(f"there is a database in {place.cluster}: add --yes to replace it (it is kept aside)")
    owner = account.choose(place.cluster)
    make_home(place.home, owner)
    with server.locked(place):
        cluster.take_place(place)
        most_waiting = max(1, most_waiting_bytes // SEGMENT_BYTES)
        work = _Restore(place, owner, folder, to, most_waiting, durable=durable, report=report)
        _archive_the_rest(place, folder, report)
        with work.beside():
            reached, timeline = work.recover()
            aside = work.take_over(timeline, reached)
    return Restored(
        url=server.start(home, durable=durable, report=report),
        backup=work.backup.name,
        reached=reached,
        timeline=timeline,
        aside=aside,
        is_archived=work.is_own,
    )


def choose(backups: Sequence[Backup], pasts: Sequence[Past], to: int | None) -> tuple[Backup, int]:
    """The newest backup from which the log leads to a moment, and the timeline that was alive then.

    Each restore began a timeline. What was written between the moment that it went back to and the restore
    itself lies on the one before, and is found there when a time of those is asked for.

    Raises:
        WrongUse: none reaches back so far.
    """
    moment = _EVER if to is None else to
    alive = [past for past in pasts if past.at <= moment]
    first = pasts[0].parent if pasts else max((one.timeline for one in backups), default=1)
    timeline = walk = alive[-1].timeline if alive else first
    begun = {past.timeline: past for past in pasts}
    while True:
        fitting = [one for one in backups if one.timeline == walk and one.finished <= moment]
        if fitting:
            return fitting[-1], timeline
        if walk not in begun:
            break
        walk, moment = begun[walk].parent, min(moment, begun[walk].to)
    oldest = min((one.finished for one in backups), default=None)
    if oldest is None:
        raise WrongUse("there is no backup to restore from: deltatape db backup makes one")
    raise WrongUse(
        f"no backup reaches back to {format_time(to or 0)}: the oldest is of {format_time(oldest)}"
    )


def pasts_of(folder: Path) -> list[Past]:
    """The restores from `folder` whose server is archived there, in order."""
    try:
        lines = (folder / _PASTS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [json.decode(line, type=Past) for line in lines]


class _Restore:
    """One restore, beside the cluster."""

    def __init__(
        self,
        place: Layout,
        owner: account.Account,
        folder: Path,
        to: int | None,
        most_waiting: int,
        *,
        durable: bool,
        report: Report,
    ) -> None:
        self._place, self._side, self._account = place, place.restoring, owner
        self._folder, self._to, self._most_waiting = folder, to, most_waiting
        self._durable, self._report = durable, report
        self.is_own = backup.require(folder).home == str(place.home)
        """Whether the backups are this home's, so that its log is archived there again."""
        self.backup, self._timeline = choose(backup.list_backups(folder), pasts_of(folder), to)
        self._binaries = self._find()

    def _find(self) -> Binaries:
        free = shutil.disk_usage(self._place.home).free
        if free < self.backup.data_bytes * 1.05:
            need = self.backup.data_bytes * 1.05 / 1e9
            raise Unavailable(f"{self._place.home} has {free / 1e9:,.1f} GB free, {need:,.1f} are needed")
        return binaries.find(self._place, self._report, int(self.backup.postgresql.split(".")[0]))

    @contextmanager
    def beside(self) -> Iterator[None]:
        """A folder for the new cluster; nothing of it is left afterwards."""
        self._clear()
        try:
            make_home(self._side.home, self._account)
            self._report(f"Unpacking the backup of {format_time(self.backup.finished)} …")
            unpack(self._folder / "base" / self.backup.name, self._side.cluster, self._account)
            for name in _LEFT:
                path = self._side.cluster / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            make_private(self._side.socket, self._account)
            yield
        finally:
            cluster.take_place(self._place)  # where it was interrupted between the two renames
            self._clear()

    def _clear(self) -> None:
        if cluster.pid(self._side) is not None:
            cluster.halt(self._side, self._binaries, self._account)
        shutil.rmtree(self._side.home, ignore_errors=True)

    def recover(self) -> tuple[int | None, int]:
        """Bring the cluster to the moment; when its last transaction was, and its new timeline."""
        text = "the end of the archive" if self._to is None else format_time(self._to)
        self._report(f"Reading the log up to {text} …")
        try:
            self._launch(self._to)
        except Unavailable as error:
            if not self._was_idle_until(str(error)):
                raise
            # Nothing was committed between the last transaction and that moment.
            self._launch(None)
        with archive.superuser(self._side) as connection:
            reached, timeline = connection.execute(
                "SELECT pg_last_xact_replay_timestamp(), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
            ).fetchone() or (None, "1")
        cluster.halt(self._side, self._binaries, self._account)
        last = None if reached is None else from_datetime(reached)  # type: ignore[arg-type]
        return last, int(str(timeline), 16)

    def _launch(self, to: int | None) -> None:
        moment = None if to is None else to_datetime(to).isoformat()
        self._write_archiving()
        archive.write_recovery(self._side, self._account, self._folder, self._timeline, moment)
        cluster.launch(self._side, self._binaries, self._account, durable=self._durable, patience=_PATIENCE)

    def _write_archiving(self) -> None:
        if self.is_own:
            archive.write_archiving(self._side, self._account, self._folder, self._most_waiting)
        else:
            archive.turn_off(self._side)

    def _was_idle_until(self, reason: str) -> bool:
        """Whether recovery has only ended as no transaction came after that moment.

        Raises:
            Unavailable: the archive is damaged, or ends before that moment.
        """
        if damaged := re.search(r'could not restore file "(\w+)[^"]*" from archive', reason):
            raise Unavailable(
                f"{damaged[1]} in {self._folder / 'wal'} is damaged, or there was no room to unpack it:"
                " ask for a moment before it was written"
            )
        if self._to is None or "before configured recovery target" not in reason:
            return False
        reached = backup.reach(archive.archived(self._folder), self.backup)
        latest = reached[-1].timestamp if reached else self.backup.finished
        if self._to > latest:
            raise Unavailable(
                f"the archive ends at {format_time(latest)}, before {format_time(self._to)}:"
                " ask for an earlier moment, or leave out --to to have all that there is"
            )
        return True

    def take_over(self, timeline: int, reached: int | None) -> str | None:
        """Put the new cluster in the old one's place, and on record; where the old one is now."""
        self._write_archiving()
        history = self._folder / _PASTS if self.is_own else None
        if self.is_own:
            self._place.archive.write_bytes(json.encode(str(self._folder)))
        found = binaries.read_record(self._place)
        if found is not None and cluster.pid(self._place) is not None:
            cluster.halt(self._place, found, self._account)
        now = datetime.now(UTC)
        moment = self.backup.finished if reached is None else reached
        past = Past(from_datetime(now), moment, timeline, self._timeline)
        aside = self._place.home / f"cluster.before-{now:%Y%m%dT%H%M%SZ}"
        had_one = self._place.cluster.exists()
        cluster.give_place(self._place, aside.name, history, json.encode(past))
        return str(aside) if had_one else None


def _archive_the_rest(place: Layout, folder: Path, report: Report) -> None:
    """Let a running server archive what it wrote last, as far as it still can."""
    if not cluster.is_up(place):
        return
    state = archive.state(place)
    if state.folder is None or Path(state.folder) != folder:
        return
    report("Archiving the last of the log …")
    with archive.superuser(place) as connection:
        connection.execute("SELECT pg_create_restore_point('before a restore')")
        row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    last = str(row[0]) if row else ""
    deadline = time.monotonic() + _ARCHIVING
    while (archive.state(place).archived or "") < last:
        if time.monotonic() > deadline:
            report("The archive does not take it: the last of the log stays in the old data folder")
            return
        time.sleep(0.1)
