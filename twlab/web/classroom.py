"""The pages of a class: join it, open it, predict, see what all said."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from twlab.errors import UsageError
from twlab.web import class_sheets, knobs, questions
from twlab.web.classes import Class, Classes, Student
from twlab.web.guard import Rate
from twlab.web.runs import QueueFull
from twlab.web.scenario_pages import ScenarioPages, target_of
from twlab.web.site import Site, to

_QUIET_S = 15.0  # after which a browser is told that the class is still there


class Classroom:
    """The handlers of these pages."""

    def __init__(self, site: Site, runs: ScenarioPages):
        self.site = site
        self._runs = runs
        self._classes = Classes(site.store)
        self._changes: dict[str, asyncio.Event] = {}
        self._tries = Rate(0.5, 20)  # at codes and at the teacher's token, of one visitor

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/class", self.front),
            Route("/class/open", self.open, methods=["POST"]),
            Route("/class/join", self.join, methods=["POST"]),
            Route("/class/{code}", self.page),
            Route("/class/{code}/predict", self.predict, methods=["POST"]),
            Route("/class/{code}/show", self.show, methods=["POST"]),
            Route("/class/{code}/events", self.events),
            Route("/class/{code}/run/events", self.run_events),
            Route("/class/{code}/sheet.csv", self.sheet),
            Route("/class/{code}/grade.zip", self.grade),
        ]

    async def front(self, request: Request) -> Response:
        return self._front(request)

    def _front(self, request: Request, code: str = "") -> Response:
        scenario = self.site.scenario(request.query_params.get("scenario", "stale-data"))
        return self.site.page(
            request,
            "class_front.html.j2",
            code=code,
            scenario=scenario,
            scenarios=self.site.scenarios,
            knobs=knobs.of(scenario),
            given={},
            asks_token=bool(self.site.teacher_token),
            mine=self._classes.of_teacher(request.state.visitor),
        )

    async def open(self, request: Request) -> Response:
        """Open a class, for who has the teacher's token where there is one."""
        form, wanted = request.state.form, self.site.teacher_token
        self._count_try(request)
        if wanted and not hmac.compare_digest(form.get("teacher", "").strip().encode(), wanted.encode()):
            raise UsageError("that is not the teacher's token", "twlab serve prints it when it starts", "bad-token")
        scenario = self.site.scenario(form.get("scenario", ""))
        asked = self.site.asked(scenario, form)
        key = self.site.key(asked)
        self.site.store.ask(key, asked)
        opened = self._classes.open(request.state.visitor, asked, key, target_of(scenario, asked))
        return to(f"/class/{opened.code}")

    async def join(self, request: Request) -> Response:
        form = request.state.form
        self._count_try(request)
        found = self._classes.find(form.get("code", "").strip())
        self._classes.join(found.code, request.state.visitor, form.get("nickname", ""))
        self._tell(found.code)
        return to(f"/class/{found.code}")

    async def page(self, request: Request) -> Response:
        """Show the class to who is in it; to any other, the form to join it."""
        found = self._classes.find(request.path_params["code"])
        teaches = found.teacher == request.state.visitor
        student = self._classes.student(found.code, request.state.visitor)
        if not teaches and not student:
            return self._front(request, found.code)
        scenario = self.site.scenario(found.asked.scenario)
        students = self._classes.students(found.code)
        shown = self._runs.shown(found.key, found.asked, request.state.visitor)
        shown["events"] = f"/class/{found.code}/run/events"
        shown["again_at"] = f"/class/{found.code}/show" if teaches else ""
        observed: dict[str, Any] = {}
        if summary := shown["summary"]:
            shown |= self._outcome(found, student, request.state.visitor, summary)
            observed = summary["arms"][found.arm]["observed"]
        asks = self.site.questions(scenario)
        return self.site.page(
            request,
            "class.html.j2",
            **shown,
            room=found,
            teaches=teaches,
            student=student,
            joined=len(students),
            predicted=sum(each.facts is not None for each in students),
            questions=asks,
            distribution=class_sheets.distribution(asks, students, observed) if found.stage == "run" else [],
            link=f"{request.url.scheme}://{request.headers.get('host', '')}/class",
        )

    def _outcome(self, found: Class, student: Student | None, visitor: str, summary: dict[str, Any]) -> dict[str, Any]:
        """Return what the template of the outcome shows in class: what was predicted there."""
        shown = self._runs.outcome(found.key, found.asked, visitor, summary) | {"from_store": False}
        if not student:
            shown["compared"] = None  # the teacher has made no prediction
        else:  # what he has said in class, and not what he said of the same run elsewhere
            shown["compared"] = questions.compare(student.facts or {}, summary["arms"][found.arm]["observed"])
        return shown

    async def predict(self, request: Request) -> Response:
        found = self._classes.find(request.path_params["code"])
        if not self._classes.student(found.code, request.state.visitor):
            raise UsageError("you are not in this class", f"join it with the code {found.code}", "not-in-class")
        scenario = self.site.scenario(found.asked.scenario)
        facts = questions.answers(self.site.questions(scenario), request.state.form)
        self._classes.predict(found.code, request.state.visitor, facts)
        self._tell(found.code)
        return to(f"/class/{found.code}")

    async def show(self, request: Request) -> Response:
        """Close the predictions; have the run made, and shown to all."""
        found = self._taught(request)
        try:
            key = self.site.order(found.asked, request.state.visitor)  # another, if twlab has changed
        except QueueFull as error:
            return self.site.full(request, error)
        self._classes.show(found.code, key)
        self._tell(found.code)
        return to(f"/class/{found.code}")

    async def events(self, request: Request) -> Response:
        """Return the class's stage, now and whenever something in the class has changed."""
        code = self._classes.find(request.path_params["code"]).code

        async def stream() -> AsyncIterator[str]:
            while True:
                # Before the stage is read: no change after it is missed.
                changed = self._changes.setdefault(code, asyncio.Event())
                yield f"data: {json.dumps({'stage': self._classes.find(code).stage})}\n\n"
                while not changed.is_set():
                    try:
                        await asyncio.wait_for(changed.wait(), _QUIET_S)
                    except TimeoutError:
                        yield ": still here\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def run_events(self, request: Request) -> Response:
        """Return the events of the class's run, for who is in the class, once it is shown."""
        found = self._classes.find(request.path_params["code"])
        student, visitor = self._classes.student(found.code, request.state.visitor), request.state.visitor
        if found.stage != "run" or not (student or found.teacher == visitor):
            raise UsageError("this class shows no run to you", f"join it with the code {found.code}", "not-in-class")
        return self._runs.stream(request, found.key, lambda summary: self._outcome(found, student, visitor, summary))

    async def sheet(self, request: Request) -> Response:
        """Return the sheet of all students as CSV, for the teacher."""
        found = self._taught(request)
        asks, observed = self.site.questions(self.site.scenario(found.asked.scenario)), self._observed(found)
        text = class_sheets.table(asks, self._classes.students(found.code), observed)
        headers = {"content-disposition": f'attachment; filename="class-{found.code}.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    async def grade(self, request: Request) -> Response:
        """Return an assignment and a submission for each student, for ``twlab grade``."""
        found = self._taught(request)
        asks = self.site.questions(self.site.scenario(found.asked.scenario))
        packed = class_sheets.for_grader(found, asks, self._classes.students(found.code))
        headers = {"content-disposition": f'attachment; filename="class-{found.code}.zip"'}
        return Response(packed, media_type="application/zip", headers=headers)

    def _taught(self, request: Request) -> Class:
        """Return the class, for its teacher alone."""
        found = self._classes.find(request.path_params["code"])
        if found.teacher != request.state.visitor:
            raise UsageError(
                "only the teacher of this class may do that", "use the browser that opened it", "not-teacher"
            )
        return found

    def _observed(self, found: Class) -> dict[str, Any]:
        answer = self.site.runs.answer(found.key)
        return dict(answer.summary["arms"][found.arm]["observed"]) if answer and found.stage == "run" else {}

    def _count_try(self, request: Request) -> None:
        address = request.client.host if request.client else ""
        if not self._tries.allows(f"{address} {request.state.visitor}"):
            raise UsageError("too many tries", "wait a minute", "too-many-tries")

    def _tell(self, code: str) -> None:
        """Wake those who have the class's page open."""
        with contextlib.suppress(KeyError):
            self._changes.pop(code).set()
