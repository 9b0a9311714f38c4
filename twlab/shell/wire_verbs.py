"""The shell's verbs for the wire: segments, hold, drop, release, inject and more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from twlab.errors import UsageError
from twlab.numerals import is_whole
from twlab.segment import Segment
from twlab.shell import crossing, phrases
from twlab.shell.verb_base import VerbBase
from twlab.wire.rules import Held

if TYPE_CHECKING:
    from twlab.results.pcapng import Sighting
    from twlab.wire.rules import Rule
    from twlab.wire.wire import Wire

_ETHERNET_BYTES = 14


class WireVerbs(VerbBase):
    """What crosses the wire, and what the wire does to it."""

    def do_segments(self, line: str) -> None:
        """segments on [WHICH]: show segments as they come to the wire, these instead of those that
        an earlier one named. segments off: no more.
        segments [N]: the last N that have crossed (20 if none is said), with the numbers that
        inject and the ladder use."""
        word, _, rest = line.partition(" ")
        if word == "on":
            phrase = phrases.parse(rest, self.addresses, count=None)
            from twlab.report.ladder.numbering import Numbering

            crossing.check(phrase, self._wire(phrase.at).node)
            self._numbering = self._numbering or Numbering()
            for seen in self.sightings():
                self._numbering.learn(seen.segment.flow, seen.segment)
            self._watch_no_more()
            self._watches.append(self._wire(phrase.at).watch(phrase.match, self._show))
            self.say("segments are shown as they come to the wire, until: segments off")
        elif word == "off":
            self._watch_no_more()
        elif not word or (is_whole(word) and int(word) > 0):
            from twlab.report.ladder.arrows import arrows
            from twlab.report.ladder.transits import transits

            ways = transits(self.sightings(), self.lab.network.nodes)
            for arrow in arrows(ways)[-int(word or 20) :]:
                path = f"{arrow.path[0]} > {arrow.path[-1]}"
                line = f"#{arrow.number:<4} {arrow.left_s:9.4f}  {path}  {arrow.label()}  {arrow.words}"
                self.say(line.rstrip())
        else:
            self._usage(self.do_segments)

    def _watch_no_more(self) -> None:
        for watch in self._watches:
            watch.stop()
        self._watches.clear()

    def do_hold(self, line: str) -> None:
        """hold WHICH [count 2]: the wire takes the next segment of that kind, until you release it.
        WHICH: any, data, syn, synack, ack, fin or rst; from NODE[:PORT], to NODE[:PORT], flags FA,
        having F, containing TEXT, number 2 (the second that matches), with-timestamp,
        without-timestamp, at WIRE. Example: hold data from client to server:80"""
        self._rule(line, lambda wire, p: wire.hold(p.match, p.count))

    def do_copy(self, line: str) -> None:
        """copy WHICH [count 2]: the wire lets the next segment of that kind pass and keeps a copy,
        until you release it (see: help hold).
        """
        self._rule(line, lambda wire, p: wire.copy(p.match, p.count))

    def do_duplicate(self, line: str) -> None:
        """duplicate WHICH [after SECONDS] [count 2]: the next segment of that kind arrives twice
        (see: help hold).
        """
        self._rule(line, lambda wire, p: wire.duplicate(p.match, p.after_s, p.count))

    def do_delay(self, line: str) -> None:
        """delay WHICH after SECONDS [count 2|all]: the next segment of that kind arrives so much
        later (see: help hold).
        """
        self._rule(line, lambda wire, p: wire.delay(p.match, p.after_s, p.count))

    def do_drop(self, line: str) -> None:
        """drop WHICH [count 2|all]: the next segment of that kind is lost (see: help hold)."""
        self._rule(line, lambda wire, p: wire.drop(p.match, p.count))

    def do_reorder(self, line: str) -> None:
        """reorder WHICH [behind 1]: the next segment of that kind is overtaken by so many later
        ones (see: help hold).
        """
        self._rule(line, lambda wire, p: wire.reorder(p.match, p.behind, p.count))

    def do_held(self, _line: str) -> None:
        """held: the rules of the wire, and which segments each has affected so far."""
        for name, rule in self.rules.items():
            self.say(f"{name}  {rule.words}  {'armed' if rule.armed else 'done'}")
            for segment in rule.segments:
                self.say(f"      {segment.at_s:9.4f}  {segment.words(self._names())}")

    def do_release(self, line: str) -> None:
        """release RULE [without-timestamp]: let go of what a hold or a copy has (r1, r2, ...). A
        second time: duplicates.
        """
        name, _, more = line.partition(" ")
        rule = self._ruled(name)
        if not isinstance(rule, Held):
            raise UsageError(
                f"{name} {rule.words}: there is nothing to release", "a hold or a copy can be released", "bad-phrase"
            )
        if not rule.segments:
            self.say(f"{name} has nothing yet")
        rule.release(without_timestamp=more == "without-timestamp")

    def do_stop(self, line: str) -> None:
        """stop RULE: it does no more; what is held stays held."""
        self._ruled(line).stop()

    def do_inject(self, line: str) -> None:
        """inject NUMBER|END [flags FA] [seq +200] [ack +1] [tsval -1] [tsecr +0] [bytes 400 | text
        WORD] [without-timestamp] [into NODE] Put a segment onto the link, as if it had come all the
        way: like number NUMBER of the segments that have crossed, or the next one that END (c1, s1,
        ...) could send. seq, ack, tsval and tsecr are relative to that; to 0 where that has no
        timestamp."""
        words = line.split()
        if not words:
            self._usage(self.do_inject)
        wanted = phrases.parse_injection(words[1:], self.lab.network.nodes, self._help(self.do_inject))
        like = self._like(words[0])
        wire = self._wire("")
        made = wire.craft(like=like, **wanted.fields(like))
        wire.inject(made, into=self.lab.network[wanted.into].interfaces[0] if wanted.into else None)

    def sightings(self) -> list[Sighting]:
        """Return what the capture has so far, with the packets' bytes that it keeps."""
        from twlab.results.pcapng import read_capture

        packets = self.running.capture.save()
        return [
            replace(seen, segment=replace(seen.segment, raw=packets[seen.number - 1].frame[_ETHERNET_BYTES:]))
            for seen in read_capture(self.running.capture.path)
        ]

    def _rule(self, line: str, arm: Callable[[Wire, phrases.Phrase], Rule]) -> None:
        phrase = phrases.parse(line, self.addresses)
        wire = self._wire(phrase.at)
        crossing.check(phrase, wire.node)
        name = f"r{len(self.rules) + 1}"
        self.rules[name] = arm(wire, phrase)
        self.say(f"{name}: armed")

    def _ruled(self, name: str) -> Rule:
        if name not in self.rules:
            raise UsageError(
                f"there is no rule called {name!r}",
                f"there are: {', '.join(self.rules) or 'none yet; see help hold'}",
                "bad-phrase",
            )
        return self.rules[name]

    def _wire(self, name: str) -> Wire:
        known = self.lab.wires
        if not known or (name and name not in known):
            raise UsageError(
                f"there is no wire {name}".rstrip(),
                f"the wires of this topology: {', '.join(known) or 'none'}",
                "bad-phrase",
            )
        return known[name] if name else self.lab.wire

    def _names(self) -> dict[str, str]:
        return {address: name for name, known in self.addresses.items() for address in known}

    def _show(self, segment: Segment) -> None:
        assert self._numbering
        self._numbering.learn(segment.flow, segment)
        self.say(
            f"  {segment.at_s:9.4f}  {segment.words(self._names(), self._numbering.origins(segment.flow, segment))}"
        )

    def _like(self, text: str) -> Segment:
        """Return the segment that an injected one is to be like, as seen at the wire.

        For an end of a connection, it has the next sequence number.
        """
        from twlab.report.ladder.transits import next_segment, transits

        ways = transits(self.sightings(), self.lab.network.nodes)
        if is_whole(text.lstrip("#")):
            number = int(text.lstrip("#"))
            if not 1 <= number <= len(ways):
                raise UsageError(
                    f"there is no segment number {number}", f"{len(ways)} have crossed; see: segments", "bad-phrase"
                )
            return ways[number - 1].sightings[-1].segment
        following = next_segment(self.ends[text].flow, ways)
        if following is None:
            raise UsageError(f"nothing of {text} has crossed the wire", "see: segments", "bad-phrase")
        return following
