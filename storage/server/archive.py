"""The archive of the private server's write-ahead log: each finished segment, compressed, in another folder.

A segment NAME is stored as NAME-DIGEST.gz, where DIGEST is the SHA-256 of its plain bytes. It is written
aside, read back, synced and moved; nothing that is there is ever overwritten. While the folder cannot be
written, segments wait in the data folder. Only when more than `most_waiting` of them wait are they given up,
so that the tape's own disk does not run full: the archive then has a hole, which the next base backup ends.
"""

import os
import re
import shlex
from pathlib import Path

import psycopg
from msgspec import Struct, json
from psycopg import sql

from market.errors import Unavailable, WrongUse
from market.timeframe import from_datetime
from storage.server.account import Account
from storage.server.cluster import SUPERUSER, is_up, write
from storage.server.layout import Layout

SEGMENT_BYTES = 16 * 2**20
"""What initdb makes, always here."""
LONGEST_WAIT = 60
"""Seconds after which a segment is finished though it is not full: what a lost disk may cost."""
_CONFIG = "deltatape_archive.conf"
_SCRIPT, _FETCHER = "deltatape_archive.sh", "deltatape_fetch.sh"
_FAILED, _LOST = "deltatape_archive_failed", "deltatape_archive_lost"
_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})000000([0-9A-F]{2})")
_PER_LOG = 2**32 // SEGMENT_BYTES

_STORE = """\
# Written by Deltatape. PostgreSQL runs it for each finished file of its log: $1 the file, $2 its name.
# It ends with 0 only once the file is safely in the archive.
umask 077
to={folder}
most={most}
name=$2
part=$to/.part
fail() {{
    echo "$1" | tail -n 1 >{failed}
    echo "cannot archive $name: $1" >&2
    rm -f "$part"
    [ "$(ls pg_wal/archive_status | grep -c '\\.ready$')" -gt "$most" ] || exit 1
    echo "$name" >>{lost}
    exit 0
}}
sum=$(sha256sum <"$1") || fail "cannot read $1"
sum=${{sum%% *}}
file=$to/$name-$sum.gz
for other in "$to/$name"-*.gz; do
    if [ -e "$other" ] && [ "$other" != "$file" ]; then
        fail "another file of this name is there: does another server write into this folder?"
    fi
done
if [ ! -e "$file" ]; then
    said=$({{ gzip -1 -c <"$1" >"$part" && touch -r "$1" "$part" && sync "$part"; }} 2>&1) ||
        fail "${{said:-cannot write}}"
    [ "$(gzip -dc <"$part" | sha256sum)" = "$sum  -" ] || fail "what was written reads otherwise"
    said=$(mv -n "$part" "$file" 2>&1) || fail "$said"
fi
sync "$to" || fail "cannot sync $to"
rm -f {failed}
"""

_FETCH = """\
# Written by Deltatape. PostgreSQL runs it for each file of the log that it wants: $1 its name, $2 where to.
for file in {folder}/"$1"-*.gz; do
    [ -e "$file" ] || exit 1
    sum=${{file##*-}}
    gzip -dc <"$file" >"$2.part" && [ "$(sha256sum <"$2.part")" = "${{sum%.gz}}  -" ] &&
        mv "$2.part" "$2" && exit 0
    echo "damaged, or no room for it: $file" >&2
    exit 126
done
"""


class Owner(Struct, frozen=True):
    """Whose folder of backups it is: a server's number (which every cluster has from its birth) and home."""

    system: str
    home: str


class Archived(Struct, frozen=True):
    """A file in the archive, and when the server wrote it last (microseconds UTC), whenever it came there."""

    name: str
    timestamp: int

    @property
    def number(self) -> int | None:
        """Where it stands in the log, whatever its timeline; None for what is no segment."""
        return segment_number(self.name)


class ArchiveState(Struct, frozen=True):
    """How the archive of a running server does. Times are microseconds UTC.

    `reason` is why the last file could not be stored, empty while all is well; `waiting` counts the files
    that wait in the data folder; `lost` names those that were given up.
    """

    folder: str | None
    archived: str | None
    archived_timestamp: int | None
    reason: str
    failed_timestamp: int | None
    waiting: int
    lost: list[str]


def segment_number(name: str) -> int | None:
    """Where a segment stands in the log, whatever its timeline; None where `name` is none."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[2], 16) * _PER_LOG + int(found[3], 16)


def superuser(place: Layout) -> psycopg.Connection[tuple[object, ...]]:
    """A session that may do everything on a running private server.

    Raises:
        Unavailable: it does not answer.
    """
    try:
        return psycopg.connect(place.url("postgres", SUPERUSER), connect_timeout=10, autocommit=True)
    except psycopg.OperationalError as error:
        raise Unavailable(f"the private server does not answer: {error}") from None


def folder_on_record(place: Layout) -> Path | None:
    """The folder of backups that this home was given last."""
    try:
        return Path(json.decode(place.archive.read_bytes(), type=str))
    except FileNotFoundError:
        return None


def owner_of(folder: Path) -> Owner | None:
    """Whose folder of backups `folder` is, None where it is none yet."""
    try:
        return json.decode((folder / "owner.json").read_bytes(), type=Owner)
    except FileNotFoundError:
        return None


def claim(place: Layout, account: Account, folder: Path, system: str) -> None:
    """Make `folder` the home's folder of backups, as far as it is not.

    Raises:
        WrongUse: it lies in the data folder, cannot be made, or belongs to another server.
    """
    if folder.is_relative_to(place.cluster):
        raise WrongUse(f"{folder} lies in the data folder that it is to save: name a folder outside of it")
    known = owner_of(folder)
    if known is not None and known != (ours := Owner(system, str(place.home))):
        whose = "another server" if known.system != ours.system else f"the server in {known.home}"
        raise WrongUse(f"{folder} holds the backups of {whose}: name another folder")
    try:
        for made in (folder, folder / "wal", folder / "base"):
            made.mkdir(parents=made == folder, exist_ok=True)
            if made != folder and not account.is_self:
                os.chown(made, account.uid, account.gid)
            made.chmod(0o755 if made == folder else 0o700)
        if known is None:
            (folder / "owner.json").write_bytes(json.encode(Owner(system, str(place.home))))
        place.archive.write_bytes(json.encode(str(folder)))
    except OSError as error:
        raise WrongUse(f"cannot write in {folder} ({error.strerror}): name another folder") from None
    if not account.can_enter(folder / "wal"):
        raise WrongUse(
            f"PostgreSQL runs as user {account.name}, who cannot enter {folder}: name a folder whose parents"
            " everyone may enter"
        )


def turn_on(place: Layout, account: Account, folder: Path, most_waiting: int) -> None:
    """Let the running server archive its log in `folder`, which is claimed.

    Raises:
        Unavailable: the server was started by an older Deltatape.
    """
    write_archiving(place, account, folder, most_waiting)
    with superuser(place) as connection:
        if connection.execute("SHOW archive_mode").fetchone() != ("on",):
            raise Unavailable(
                "this server was started by an older Deltatape: deltatape db stop, then deltatape db start"
            )
        rules = place.cluster / "pg_hba.conf"
        if not re.search(r"^local\s+replication\s", rules.read_text(), re.MULTILINE):
            write(rules, rules.read_text() + f"local replication {SUPERUSER} trust\n", account)
        connection.execute("SELECT pg_reload_conf()")


def write_archiving(place: Layout, account: Account, folder: Path, most_waiting: int) -> None:
    """Write what makes the server archive its log from its next start or reload on."""
    text = _STORE.format(
        folder=shlex.quote(str(folder / "wal")), most=most_waiting, failed=_FAILED, lost=_LOST
    )
    write(place.cluster / _SCRIPT, text, account)
    settings = f"""archive_command = 'sh {_SCRIPT} "%p" "%f"'\narchive_timeout = {LONGEST_WAIT}\n"""
    write(place.cluster / _CONFIG, settings, account)


def write_recovery(place: Layout, account: Account, folder: Path, timeline: int, to: str | None) -> None:
    """Write what makes an unpacked backup go on from the archive, up to the time `to` or all of it.

    It is added to what says whether the server archives, which it does from its new timeline on. Nobody is
    let in before the recovery is done.
    """
    write(place.cluster / _FETCHER, _FETCH.format(folder=shlex.quote(str(folder / "wal"))), account)
    target = "" if to is None else f"recovery_target_time = '{to}'\n"
    settings = f"""\
restore_command = 'sh {_FETCHER} "%f" "%p"'
recovery_target_timeline = '{timeline}'
recovery_target_action = 'promote'
hot_standby = off
{target}"""
    config = place.cluster / _CONFIG
    write(config, (config.read_text() if config.exists() else "") + settings, account)
    write(place.cluster / "recovery.signal", "", account)


def turn_off(place: Layout) -> None:
    """Archive no more, where a server runs from now on; what is there stays."""
    (place.cluster / _CONFIG).unlink(missing_ok=True)
    if is_up(place):
        with superuser(place) as connection:
            connection.execute("SELECT pg_reload_conf()")


def state(place: Layout) -> ArchiveState:
    """How the archive of the running server does.

    Raises:
        Unavailable: the server does not run.
    """
    with superuser(place) as connection:
        command, archived, at, failed, reason, waiting, lost = (
            connection.execute(
                sql.SQL("""
            SELECT current_setting('archive_command'), last_archived_wal, last_archived_time,
                last_failed_time, coalesce(pg_read_file({}, true), ''),
                (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
                coalesce(pg_read_file({}, true), '')
            FROM pg_stat_archiver""").format(sql.Literal(_FAILED), sql.Literal(_LOST))
            ).fetchone()
            or (None,) * 7
        )
    is_on = _SCRIPT in str(command)
    folder = folder_on_record(place) if is_on else None
    return ArchiveState(
        folder=None if folder is None else str(folder),
        archived=archived,  # type: ignore[arg-type]
        archived_timestamp=None if at is None else from_datetime(at),  # type: ignore[arg-type]
        reason=str(reason).strip() if is_on else "",
        failed_timestamp=from_datetime(failed) if reason and failed else None,  # type: ignore[arg-type]
        waiting=int(str(waiting or 0)) if is_on else 0,
        lost=str(lost).split(),
    )


def archived(folder: Path) -> list[Archived]:
    """What the archive holds, in the order of the log within each timeline.

    Raises:
        Unavailable: the folder cannot be read.
    """
    try:
        found = [
            Archived(path.name.partition("-")[0], path.stat().st_mtime_ns // 1000)
            for path in (folder / "wal").iterdir()
            if path.suffix == ".gz"
        ]
    except OSError as error:
        raise Unavailable(f"cannot read {folder / 'wal'} ({error.strerror})") from None
    return sorted(found, key=lambda one: one.name)


def unbroken(files: list[Archived], first: int) -> list[Archived]:
    """The segments from number `first` on up to the first that is missing, in order.

    A number may stand there on two timelines, where a restore went on in its middle.
    """
    numbered: dict[int, Archived] = {}
    for one in files:
        if one.number is not None:
            numbered[one.number] = one
    run: list[Archived] = []
    while (found := numbered.get(first + len(run))) is not None:
        run.append(found)
    return run
