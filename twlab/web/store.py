"""Keeps orders, answers, predictions and classes, in one SQLite file.

An answer is kept under its order's key: the lab kernel, twlab, the scenario's text, arms, settings
and seed. A lab gives the same answer to the same order, so a key that is known needs no lab.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twlab import __version__, loop
from twlab.errors import CapabilityError, UsageError
from twlab.scenario import Scenario

LOCK = ".lock"  # suffix of the file that says whose the folder is
_MOST_ANSWERS = 3000
_MOST_ORDERS = 50_000
_MOST_PREDICTIONS = 100_000
_SCHEMA = """
create table if not exists orders (key text primary key, asked text not null, made real not null);
create table if not exists answers (key text primary key, summary text not null, page blob not null,
  captures blob not null, made real not null);
create table if not exists predictions (key text, visitor text, facts text not null, made real not null,
  primary key (key, visitor)) without rowid;
create table if not exists classes (code text primary key, teacher text not null, asked text not null,
  key text not null, arm text not null, stage text not null, made real not null);
create table if not exists students (code text, student text, nickname text not null, facts text, made real not null,
  primary key (code, student), unique (code, nickname)) without rowid;
"""


@dataclass(frozen=True)
class Asked:
    """An order, as a visitor gives it.

    Attributes:
        scenario: its name.
        arms: their names, in the scenario's order.
        sets: ``KEY=VALUE`` texts, sorted.
        seed: for everything random.
    """

    scenario: str
    arms: tuple[str, ...]
    sets: tuple[str, ...] = ()
    seed: int = 1

    def key(self, scenario: Scenario, kernel: str) -> str:
        """Return what names the order and its answer: 20 hexadecimal digits.

        Args:
            scenario: itself, for the digest of its text.
            kernel: what tells one lab kernel from another.
        """
        parts = [__version__, kernel, scenario.digest, self.scenario, self.arms, self.sets, self.seed]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Asked:
        values = json.loads(text)
        return cls(values["scenario"], tuple(values["arms"]), tuple(values["sets"]), values["seed"])


@dataclass(frozen=True)
class Answer:
    """A run's result, as it is shown.

    Attributes:
        summary: verdict, and each arm's facts.
        page: the run in markup.
    """

    summary: dict[str, Any]
    page: str


def lasts(summary: Mapping[str, Any]) -> bool:
    """Return whether that is the answer to its order: no arm's engine ended early."""
    return all((arm["error"] or {}).get("kind") != "EngineError" for arm in summary["arms"].values())


class Store:
    """The file. One process has it and its folder, and one thread of it at a time.

    Raises:
        CapabilityError: it cannot be opened (``cannot-write``).
        UsageError: another server has its folder (``state-in-use``).
    """

    def __init__(self, path: Path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for file in (path, path.with_suffix(LOCK)):
                file.touch(mode=0o600)
            self._lock = path.with_suffix(LOCK).open()
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self.db.execute("pragma journal_mode = wal")
            self.db.execute("pragma synchronous = normal")
            self.db.execute("pragma secure_delete = on")
            self.db.executescript(_SCHEMA)
        except BlockingIOError as error:
            self._lock.close()
            message = f"another server keeps its state in {path.parent}"
            raise UsageError(message, "name another folder with --state, or end that server", "state-in-use") from error
        except (OSError, sqlite3.Error) as error:
            message = f"{path} cannot be opened: {error}"
            raise CapabilityError(message, "name another folder with --state", "cannot-write") from error

    def close(self) -> None:
        """Close the file, and leave the folder to another."""
        self.db.close()
        self._lock.close()

    def ask(self, key: str, asked: Asked) -> None:
        """Keep an order, so that its permalink works."""
        self.db.execute("insert or ignore into orders values (?, ?, ?)", (key, asked.as_text(), loop.wall_s()))
        self._bound("orders", _MOST_ORDERS)

    def asked(self, key: str) -> Asked | None:
        """Return the order of that key."""
        row = self.db.execute("select asked from orders where key = ?", (key,)).fetchone()
        return Asked.from_text(row[0]) if row else None

    def keep(self, key: str, summary: Mapping[str, Any], page: str, captures: Mapping[str, str]) -> None:
        """Keep an answer."""
        packed = zlib.compress(page.encode(), 6)
        values = (key, json.dumps(summary), packed, json.dumps(captures).encode(), loop.wall_s())
        self.db.execute("insert or replace into answers values (?, ?, ?, ?, ?)", values)
        self._bound("answers", _MOST_ANSWERS)

    def answer(self, key: str) -> Answer | None:
        """Return the answer of that key, or None."""
        row = self.db.execute("select summary, page from answers where key = ?", (key,)).fetchone()
        return Answer(json.loads(row[0]), zlib.decompress(row[1]).decode()) if row else None

    def summaries(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what is known of `keys`, without the pages."""
        marks = ",".join("?" * len(keys))
        rows = self.db.execute(f"select key, summary from answers where key in ({marks})", list(keys))
        return {key: json.loads(summary) for key, summary in rows}

    def capture(self, key: str, arm: str) -> str | None:
        """Return an arm's capture, compressed and in base64."""
        row = self.db.execute("select captures from answers where key = ?", (key,)).fetchone()
        found = json.loads(row[0]).get(arm) if row else None
        return str(found) if found else None

    def predict(self, key: str, visitor: str, facts: Mapping[str, Any]) -> None:
        """Keep a visitor's prediction. The first one stands."""
        values = (key, visitor, json.dumps(facts), loop.wall_s())
        self.db.execute("insert or ignore into predictions values (?, ?, ?, ?)", values)
        self._bound("predictions", _MOST_PREDICTIONS)

    def prediction(self, key: str, visitor: str) -> dict[str, Any] | None:
        """Return what the visitor has predicted of that run."""
        row = self.db.execute("select facts from predictions where key = ? and visitor = ?", (key, visitor)).fetchone()
        return json.loads(row[0]) if row else None

    def _bound(self, table: str, most: int) -> None:
        """Drop the oldest rows past `most`."""
        [count] = self.db.execute(f"select count(*) from {table}").fetchone()
        if count > most:
            self.db.execute(
                f"delete from {table} where made <= (select made from {table} order by made limit 1 offset ?)",
                (count - most - 1,),
            )
