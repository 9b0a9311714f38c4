"""The command `twlab grade`."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from twlab.commands.console import KernelOption, SchedulerOption, err, kept, out
from twlab.engines import use_kernel
from twlab.errors import NOTHING_KEPT, Interrupted, UsageError

if TYPE_CHECKING:
    from twlab.grading.assignment import Assignment
    from twlab.grading.gradebook import Grade, Gradebook
    from twlab.grading.submission import Submission


def grade(
    submissions: Annotated[Path | None, typer.Argument(help="A student's answers file, or a folder of them.")] = None,
    assignment: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="What is asked. See docs/guides/grading.md.")
    ] = None,
    sheet: Annotated[
        str,
        typer.Option(
            metavar="ID", help="Print the sheet of this student: his numbers, to be filled in. Nothing is graded."
        ),
    ] = "",
    seed: Annotated[int | None, typer.Option(help="For the students' numbers. Default: the assignment's own.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Lab kernels side by side.")] = min(8, os.cpu_count() or 1),
    kernel: KernelOption = "",
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="JSON, and CSV beside it. Continued if it exists.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    scheduler: SchedulerOption = "",
) -> None:
    """Grade one submission, or the submissions of a class.

    The lab kernel checks what each student claims, with that student's own numbers. Exit status: 0
    everything was checked, with any grades; 1 a question could not be checked; 2 wrong usage; 3
    this machine cannot; 130 interrupted.
    """
    from twlab.grading.assignment import load_assignment
    from twlab.grading.sheet import sheet as sheet_for
    from twlab.grading.submission import read_submissions

    if assignment is None or (submissions is None) == (not sheet):
        raise UsageError(
            "name the assignment, and what to grade or --sheet ID",
            "twlab grade FOLDER --assignment FILE.toml",
            "nothing-to-grade",
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that the terminal cannot show ends nothing
    use_kernel(kernel)
    asked = load_assignment(assignment, seed)
    if submissions is None:
        typer.echo(
            sheet_for(asked, sheet).encode(errors="replace"), nl=False
        )  # TOML is UTF-8; a terminal may have another encoding
        return
    found = read_submissions(submissions, [question.id for question in asked.questions if question.kind == "scenario"])
    book = _graded(asked, found, file, jobs, scheduler)
    if as_json:
        print(book.json(), end="")
    else:
        _show(asked, book)
    if any(done.unchecked for done in book.grades.values()):
        raise typer.Exit(1)


def _graded(asked: Assignment, found: list[Submission], file: Path | None, jobs: int, scheduler: str) -> Gradebook:
    from twlab.commands.progress import bar
    from twlab.grading.grade import grade as grade_all
    from twlab.grading.grade import new_gradebook, output_files

    book = new_gradebook(asked)
    if file:
        book.resume(output_files(file)[0], [(submission.id, submission.digest) for submission in found])
        book.write(output_files(file)[0])

    def on_grade(done: Grade) -> None:
        if file:
            book.write(output_files(file)[0])
        count = len(book.grades)
        advance(count / len(found), f"{count}/{len(found)}  {done.id}  {done.points:g} of {done.of:g}")

    try:
        with bar(err, "grade", len(book.grades) / max(len(found), 1)) as advance:
            grade_all(asked, found, book, jobs=jobs, on_grade=on_grade, scheduler=scheduler)
    except KeyboardInterrupt as stop:
        if not file:
            raise Interrupted(f"{NOTHING_KEPT}, because no --out names a file") from stop
        state = f"{len(book.grades)} of {len(found)} students; the same command goes on from there"
        raise Interrupted(f"kept in {output_files(file)[0]}: {state}") from stop
    if file:
        kept.extend(output_files(file))
        for written in output_files(file):
            err.print(str(written), markup=False)
    return book


def _show(asked: Assignment, book: Gradebook) -> None:
    """Print one student in detail, or a line for each student of the class.

    Below the table stands what could not be read or checked.
    """
    grades = book.in_order()
    if len(grades) == 1:
        _show_one(grades[0])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("student", overflow="fold")
    for question in asked.questions:
        table.add_column(escape(question.id), justify="right")
    table.add_column("points", justify="right")
    table.add_column("of", justify="right")
    for grade in grades:
        cells = ["-" if mark.points is None else f"{mark.points:g}" for mark in grade.marks]
        table.add_row(escape(grade.id), *cells, f"[bold]{grade.points:g}[/bold]", f"{grade.of:g}")
    out.print(table, soft_wrap=False)
    out.print()
    for grade in grades:
        remarks = dict.fromkeys(mark.remark for mark in grade.marks if mark.remark and mark.remark != "not answered")
        if remarks:
            out.print(f"{grade.id}: {'; '.join(remarks)}", markup=False)
    if grades[0].by_hand:
        out.print(
            f"\nnot in these points: {grades[0].by_hand:g} each, of open questions, which a person has to read",
            markup=False,
        )


def _show_one(grade: Grade) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("question", "points", "claimed", "the lab kernel showed", "remark"):
        table.add_column(column, overflow="fold")
    for mark in grade.marks:
        points = f"- of {mark.of:g}" if mark.points is None else f"{mark.points:g} of {mark.of:g}"
        table.add_row(escape(mark.question), points, escape(mark.claimed), escape(mark.shown), escape(mark.remark))
    out.print(table, soft_wrap=False)
    by_hand = f", and {grade.by_hand:g} for a person to give" if grade.by_hand else ""
    out.print(f"\n{grade.id}: {grade.points:g} of {grade.of:g} points{by_hand}", markup=False)
