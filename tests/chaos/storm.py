"""One fault after the other under load that does not stop, sometimes two at once; and what came of it."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from django.db import Error as DatabaseError
from django.db import connection

from tests.chaos.faults import FAULTS, Fault, Site
from tests.flow.job import Job, Load, Sent, Wrong, effects_of, order
from tests.live import Live, wait_until
from tests.sinks import HttpSink, SmtpSink

PROCESSES: Final = ("web", "worker", "performer", "sender", "clock")
CALM: Final = 1.0  # seconds of undisturbed load before each fault
TWO_AT_ONCE: Final = 0.25  # of the rounds
ANSWERED_WITHIN: Final = 5.0  # seconds a request may take while nothing that it needs is disturbed
SETTLED_WITHIN: Final = 180.0
CLOCK_DRAINS_AFTER: Final = 2  # seconds; 10 in production, which would only make every loss of Redis longer


@dataclass
class Round:
    """One time that something went wrong."""

    number: int
    faults: Sequence[Fault]
    took: float = 0.0  # seconds from the mending until everything accepted by then was done
    broken: list[str] = field(default_factory=list)  # promises, beside the invariant

    @property
    def name(self) -> str:
        return " + ".join(fault.name for fault in self.faults)


class Storm:
    """`run` drives it, `end` settles and judges. Started from one thread that lives as long as the processes should."""

    def __init__(self, job: Job, load: Load, *, seed: int, tell: Callable[[str], None]) -> None:
        self.job, self.tell = job, tell
        self.random = random.Random(seed)
        self.site = Site(job, load, self.random)
        self.rounds: list[Round] = []
        self.began = time.monotonic()

    def run(self, rounds: Iterator[Sequence[Fault]], *, seconds: float = float("inf")) -> None:
        """Round after round until there are no more, or the time is over."""
        for faults in rounds:
            if time.monotonic() - self.began > seconds:
                return
            self._round(faults)

    def _round(self, faults: Sequence[Fault]) -> None:
        this = Round(len(self.rounds) + 1, faults)
        self.rounds.append(this)
        self.job.round = this.number
        time.sleep(CALM)
        self.job.slowest = 0.0
        self.job.refusals.clear()
        started = time.monotonic()
        try:
            _cause([fault.course(self.site) for fault in faults])
        except AssertionError as error:
            this.broken.append(str(error))
        mended = time.monotonic()
        self._wait_done(this)
        self._judge(this)
        for name, child in self.job.live.children.items():
            if child.poll() is not None:
                this.broken.append(f"{name} ended by itself, status {child.returncode}")
        self.site.load.check()
        clock, lasted = time.monotonic() - self.began, mended - started
        self.tell(f"{clock:6.0f} s  {this.name}: lasted {lasted:.1f} s, all done {this.took:.1f} s later")
        for promise in this.broken:
            self.tell(f"          BROKEN: {promise}")

    def _wait_done(self, this: Round) -> None:
        mended, now = time.monotonic(), time.time()
        within = max(fault.done_within for fault in this.faults)
        while left := self._left_of(this, now):
            this.took = time.monotonic() - mended
            if this.took > within:
                this.broken.append(f"{within:.0f} s after the mending, not done: {left}")
                return
            time.sleep(0.1)
        this.took = time.monotonic() - mended

    def _left_of(self, this: Round, mended: float) -> str:
        """What is not as it should be after the mending at that time; nothing when all is done again."""
        sent = list(self.job.rounds[this.number])
        before = [one for one in sent if one.at <= mended]
        if len(before) == len(sent):
            return "no event was accepted since"
        try:
            return _events(self.job.unfinished(before))
        except DatabaseError as error:
            connection.close()
            return f"PostgreSQL does not answer: {error}"

    def _judge(self, this: Round) -> None:
        """Whether the faults touched what they must not."""
        if not any(fault.refuses for fault in this.faults):
            if self.job.refusals:
                this.broken.append(f"producers were refused: {dict(self.job.refusals)}")
            if self.job.slowest > ANSWERED_WITHIN:
                this.broken.append(f"a request took {self.job.slowest:.1f} s")
        within = max(fault.told_within for fault in this.faults)
        sent = [one for one in list(self.job.rounds[this.number]) if one.hook]
        late = [one for one in sent if self.job.hooked_at.get(one.name, one.at) - one.at > within]
        if late:
            this.broken.append(f"the healthy channel was later than {within:.0f} s: {_events(late)}")

    # --- its end ---

    def end(self) -> Report:
        """When nobody sends any more: wait until everything is done, and hold all of it against the invariant."""
        broken = [f"{this.name}: {promise}" for this in self.rounds for promise in this.broken]
        if not self._settles():
            broken.append(f"work was left after {SETTLED_WITHIN:.0f} s: {_events(self._left())}")
        else:
            broken += self._without_a_clock()
        wrongs = list(self.job.wrongs())
        broken += _examined(self.job.live)
        return Report(self.rounds, list(self.job.accepted.values()), wrongs, self.job.repeats(), broken)

    def _settles(self) -> bool:
        try:
            self.job.wait_settled(SETTLED_WITHIN)
        except AssertionError:
            return False
        return True

    def _left(self) -> list[Sent]:
        return self.job.unfinished(list(self.job.accepted.values()))

    def _without_a_clock(self) -> Iterator[str]:
        """Whether the workers hear bells: it could be that only the clock stood in for them. Timers need the clock."""
        self.job.round = 0
        self.job.live.stop("clock")
        self.job.send(order("without-a-clock"))
        try:
            wait_until(lambda: self.job.has_heard("without-a-clock"), seconds=15)
        except AssertionError:
            yield "bells are not heard any more: without a clock, an event was not done within 15 s"
        self.job.live.start("clock")
        self.job.wait_settled()


def deck(faults: Sequence[Fault], chance: random.Random, *, two_at_once: float = TWO_AT_ONCE) -> Iterator[list[Fault]]:
    """Rounds without end: each fault comes once before any comes again, some of them beside another."""
    while True:
        for fault in chance.sample(faults, len(faults)):
            others = [other for other in faults if other.target != fault.target]
            yield [fault, chance.choice(others)] if others and chance.random() < two_at_once else [fault]


def in_pairs(faults: Sequence[Fault], chance: random.Random) -> Iterator[list[Fault]]:
    """Each fault once, beside another with which something can still be promised: in half the time."""
    left = chance.sample(faults, len(faults))
    while left:
        fault = left.pop()
        others = [other for other in left if other.target != fault.target and other.refuses == fault.refuses]
        yield [fault, *others[:1]]
        left = [other for other in left if other not in others[:1]]


def _cause(courses: Sequence[Iterator[float]]) -> None:
    """Let the courses take their time side by side, in one thread: the processes they start live as long as it."""
    due = [(time.monotonic(), course) for course in courses]
    while due:
        at, course = min(due, key=lambda entry: entry[0])
        due.remove((at, course))
        time.sleep(max(0.0, at - time.monotonic()))
        pause = next(course, None)
        if pause is not None:
            due.append((time.monotonic() + pause, course))


def _examined(live: Live) -> Iterator[str]:
    """What `manage.py doctor` finds wrong, the ledger included."""
    try:
        live.manage("doctor", DEBUG="1", COLUMNS="200")  # this is no deployment, and is not to be judged as one
    except subprocess.CalledProcessError as error:
        yield f"doctor:\n{error.stdout}{error.stderr}"


def _events(sents: Sequence[Sent]) -> str:
    more = f" and {len(sents) - 10} more" if len(sents) > 10 else ""
    return ", ".join(f"{sent.name} (event {sent.uid})" for sent in sents[:10]) + more


# --- the report ------------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """A line of the table."""

    times: int = 0
    effects: int = 0
    lost: int = 0
    doubled: int = 0
    repeated: int = 0
    longest: float = 0.0

    def __str__(self) -> str:
        cells = (self.times, f"{self.effects:,}", self.lost, self.doubled, self.repeated, f"{self.longest:.1f} s")
        return " | ".join(map(str, cells))


@dataclass(frozen=True)
class Report:
    """What came of a storm. `broken` are promises besides the invariant; nothing is wrong when it is `well`."""

    rounds: Sequence[Round]
    accepted: Sequence[Sent]
    wrongs: Sequence[Wrong]
    repeats: Mapping[int, int]
    broken: Sequence[str]

    @property
    def well(self) -> bool:
        return not self.wrongs and not self.broken

    def table(self) -> str:
        """A table in Markdown: a line per fault, one for the rounds with two of them, and the sums."""
        head = "fault | times | effects checked | lost | doubled | repeated notifications | longest until all was done"
        lines = [f"| {head} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        lines += [f"| {name} | {line} |" for name, line in self._lines().items()]
        return "\n".join(lines)

    def told(self) -> str:
        """Everything that is wrong, with the events concerned."""
        return "\n".join([*map(str, self.wrongs[:100]), *self.broken])

    def _lines(self) -> dict[str, Line]:
        names = {this.number: this.name if len(this.faults) == 1 else "two at once" for this in self.rounds}
        lines = {name: Line() for name in [*FAULTS, "two at once"] if name in names.values()}
        lines["none (before and after)"] = Line()
        found: defaultdict[int, Counter[str]] = defaultdict(Counter)
        for sent in self.accepted:
            found[sent.round]["effects"] += effects_of(sent)
        for wrong in self.wrongs:
            found[wrong.sent.round if wrong.sent else 0]["lost" if wrong.lost else "doubled"] += 1
        for this in self.rounds:
            line = lines[names[this.number]]
            line.times += 1
            line.longest = max(line.longest, this.took)
        for number in {0, *names}:
            line = lines[names.get(number, "none (before and after)")]
            line.effects += found[number]["effects"]
            line.lost += found[number]["lost"]
            line.doubled += found[number]["doubled"]
            line.repeated += self.repeats.get(number, 0)
        lines["**all**"] = Line(
            times=len(self.rounds),
            effects=sum(line.effects for line in lines.values()),
            lost=sum(line.lost for line in lines.values()),
            doubled=sum(line.doubled for line in lines.values()),
            repeated=sum(line.repeated for line in lines.values()),
            longest=max((line.longest for line in lines.values()), default=0.0),
        )
        return lines


def configured(live: Live, hooks: HttpSink, mails: SmtpSink) -> Job:
    """The job on a Carillon whose four processes are up, and have done it once."""
    job = Job.configure(live, hooks, mails)
    with connection.cursor() as cursor:
        # Tests run without it, for speed. Here PostgreSQL is killed, and what it has committed has to be there.
        cursor.execute(f"ALTER DATABASE {connection.settings_dict['NAME']} SET synchronous_commit = on")
    connection.close()
    live.environment.update(CLOCK_DRAINS_AFTER=str(CLOCK_DRAINS_AFTER))
    live.start(*PROCESSES)
    live.wait_ready()
    job.send(order("warm-up"))
    job.wait_settled()
    return job
