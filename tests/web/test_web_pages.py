"""The pages without a lab: orders, permalinks, the queue, the store, the map, the plan."""

import asyncio
import base64
import io
import zipfile
import zlib
from urllib.parse import urlencode

import httpx2
import pytest
from conftest import ROOT
from visiting import HOME, OBSERVED, Visitor, finish, make_site, streamed, summary

from twlab.catalogue import load_scenarios
from twlab.grading.assignment import load_assignment
from twlab.grading.marks import mark
from twlab.grading.submission import read_submissions
from twlab.web import class_sheets, knobs, questions
from twlab.web.classes import Class, Student
from twlab.web.curve import often
from twlab.web.how_low import points
from twlab.web.proxy import SLIDERS
from twlab.web.store import Asked

ASKED = Asked("stale-data", ("control", "treatment"))


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


@pytest.fixture
def visitor(site):
    return Visitor(site[1])


def keep(site, key, page="<p>the run</p>", **observed):
    packed = base64.b64encode(zlib.compress(b"a capture")).decode()
    site.store.keep(key, summary(**observed), page, {"treatment": packed})


def test_every_scenario_has_its_page(visitor):
    """With its claim, its arms, knobs and questions, and a place in the catalogue."""
    catalogue = visitor.get("/").text
    for name, scenario in load_scenarios().items():
        text = visitor.get(f"/scenario/{name}").text
        assert all(f'value="{arm}"' in text for arm in (*scenario.arms, "all")), name
        assert [knob.key for knob in knobs.of(scenario) if f'name="set.{knob.key}"' not in text] == [], name
        assert 1 <= len(questions.of(scenario)) <= 6, name
        assert f'href="/scenario/{name}"' in catalogue


def test_knobs_are_those_of_the_settings():
    """Bounds, units and meaning come from the settings; values have one form."""
    found = {knob.key: knob for knob in knobs.of(load_scenarios()["port-exhaustion"])}
    length = found["time_wait_s"]
    assert (length.low, length.high, length.unit, length.name) == (0.001, 3600, "s", "time wait")
    assert "hard-codes 60" in length.meaning and found["port_low"].kind == "whole"
    scenario = load_scenarios()["stale-data"]
    same = [knobs.pairs(scenario, {"set.time_wait_s": text}) for text in ("10", "10.0", " 1e1", "010")]
    assert same == [("time_wait_s=10",)] * 4
    assert knobs.pairs(scenario, {"set.timestamps": "", "set.firewall": "on", "other": "x"}) == ("firewall=on",)
    nodes = {knob.key for knob in knobs.of(load_scenarios()["haproxy-exhaustion"])}
    assert {"proxy:time_wait_s", "client:tw_reuse"} <= nodes


def test_an_order_leads_to_its_run(site, visitor):
    """The link is the order's: the same again, another for another; and it waits in the queue."""
    first = visitor.order(set__time_wait_s="10").headers["location"]
    again = visitor.order(set__time_wait_s="10.0").headers["location"]
    other = visitor.order(set__time_wait_s="11").headers["location"]
    assert first == again != other and site[0].runs.waiting == 2
    text = visitor.get(first).text
    assert 'data-follow="' in text and "time_wait_s=10" in text
    assert Asked("stale-data", ("control", "treatment"), ("time_wait_s=10",)) == site[0].store.asked(first[5:])


def test_an_answer_in_the_store_is_shown_and_says_so(site, visitor):
    """With the visitor's own prediction beside it, and the capture to take away."""
    link = visitor.order(fact__reopened="no", fact__foreign_bytes="400", fact__errors="none").headers["location"]
    keep(site[0], link[5:])
    shown = visitor.get(link).text
    assert "<p>the run</p>" in shown
    assert "no ✗" not in shown and shown.count('class="right"') == 2 and shown.count('class="wrong"') == 1
    stranger = Visitor(site[1]).get(link).text
    assert "you made no prediction" in stranger and "From the store" in stranger
    assert visitor.get(f"{link}/treatment.pcapng").content == b"a capture"
    assert visitor.get(f"{link}/control.pcapng").status_code == 404
    waiting = site[0].runs.waiting
    assert visitor.order().headers["location"] == link and site[0].runs.waiting == waiting


def test_the_first_prediction_stands(site, visitor):
    """Another one after the run changes nothing."""
    link = visitor.order(fact__reopened="no").headers["location"]
    visitor.order(fact__reopened="yes")
    keep(site[0], link[5:])
    assert 'class="wrong"' in visitor.get(link).text


def test_a_run_that_was_lost_can_be_made_again(site, visitor):
    """Its order is known, its answer is not: a form, and the same link."""
    key = site[0].key(Asked("stale-data", ("treatment",)))
    site[0].store.ask(key, Asked("stale-data", ("treatment",)))
    assert "Run it again" in visitor.get(f"/run/{key}").text
    assert visitor.post(f"/run/{key}/again").headers["location"] == f"/run/{key}"
    assert site[0].runs.waiting == 1


def test_an_old_link_leads_to_the_run_of_another_lab_kernel(site, visitor):
    """The order is the same, its answer is not: the form of the old link goes to the new one."""
    old = visitor.order().headers["location"]
    finish(site[0], old[5:], lasts=False)
    site[0].kernel = "another"
    new = visitor.post(f"{old}/again").headers["location"]
    assert new != old
    finish(site[0], new[5:])
    assert 'class="outcome"' in visitor.get(new).text


def test_the_queue_is_bounded_and_tells_its_length(tmp_path):
    """A visitor has three at most, all together as many as there is room for."""
    _, application = make_site(tmp_path, most_waiting=5)
    greedy = Visitor(application)
    statuses = [greedy.order(set__time_wait_s=str(number)).status_code for number in range(1, 6)]
    assert statuses == [303, 303, 303, 503, 503]
    for number in range(3):
        answer = Visitor(application).order(set__time_wait_s=str(20 + number))
    assert answer.status_code == 503 and "5 runs wait" in answer.text and answer.headers["retry-after"]
    assert "5 runs wait" in greedy.get("/").text


def test_two_runs_stand_side_by_side(site, visitor):
    """The second is chosen on the scenario's page, with the first one's knobs."""
    one = visitor.order(set__time_wait_s="10").headers["location"][5:]
    page = visitor.get(f"/scenario/stale-data?arm=treatment&set.time_wait_s=10&beside={one}").text
    assert f'name="beside" value="{one}"' in page and 'value="10"' in page
    link = visitor.order(set__time_wait_s="60", beside=one).headers["location"]
    assert link.startswith(f"/beside/{one}/")
    keep(site[0], one, "<p>this</p>")
    keep(site[0], link.rpartition("/")[2], "<p>that</p>", reopened=False)
    text = visitor.get(link).text
    assert "<p>this</p>" in text and "<p>that</p>" in text
    assert visitor.order(beside="../x").headers["location"].startswith("/run/")


def test_following_a_run_ends_with_over(site):
    """Its place in the queue, its events in order, and the end; for one who comes late, too."""
    runs = site[0].runs

    async def watch():
        asked = Asked("stale-data", ("treatment",))
        runs.ask("k" * 20, asked, "me")
        run = runs.find("k" * 20)
        seen = []

        async def follow():
            seen.extend([event async for event in runs.follow("k" * 20)])

        task = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await runs._next()
        run.add({"event": "start", "arm": "treatment"})
        await asyncio.sleep(0.01)
        runs._end(run, error={"slug": "x", "message": "m", "remedy": ""})
        await task
        late = [event async for event in runs.follow("k" * 20)]
        return seen, late

    seen, late = asyncio.run(watch())
    assert [event["event"] for event in seen] == ["queued", "start", "over"]
    assert [event["event"] for event in late] == ["start", "over"]


@pytest.mark.parametrize("lasts", [True, False])
def test_the_verdict_comes_first_and_is_that_of_the_permalink(site, visitor, lasts):
    """On the stream, before the page is made: escaped, with each visitor's own prediction."""
    link = visitor.order(fact__reopened="no", fact__foreign_bytes="400").headers["location"]
    stranger = Visitor(site[1])
    finish(site[0], link[5:], lasts=lasts, reopened=True, errors="<script>alert(1)</script>")
    for each, said in ((visitor, "not as you said"), (stranger, "you made no prediction")):
        markup, page = streamed(each, f"{link}/events"), each.get(link).text
        assert markup.startswith('<div class="outcome">') and page.count(markup) == 1 == page.count('class="outcome"')
        assert said in markup and "&lt;script&gt;" in markup and "<script>alert" not in page
        assert " style=" not in markup and ("From the store" in markup) == (lasts and each is stranger)
    assert visitor.get("/run/0123456789abcdef0123/events").status_code == 404


def test_the_map_runs_a_cell_and_shows_its_outcome(site, visitor):
    """A click is an order; a cell whose answer is known has its colour and leads to it."""
    link = visitor.post("/how-low/run", page="/how-low", cell="1 2", timestamps="0").headers["location"]
    asked = site[0].store.asked(link[5:])
    assert asked == Asked("stale-segment", ("treatment",), ("delay_s=2", "time_wait_s=1"))
    assert visitor.get("/how-low").text.count('name="cell"') == 56
    keep(site[0], link[5:], harmed=1, delayed=0)
    text = visitor.get("/how-low").text
    assert f'class="harmed"><a href="{link}">harmed</a>' in text and text.count('name="cell"') == 55
    assert visitor.get("/how-low?timestamps=1").text.count('name="cell"') == 56
    assert visitor.post("/how-low/run", page="/how-low", cell="3 3").status_code == 400


def test_the_curve_follows_the_sliders(visitor):
    """A longer TIME_WAIT harms fewer, none past the delay; a rate, a window and a delay move it."""
    given = {"delay_s": 30, "window": 65536, "rate_per_s": 300, "throughput": 5e8, "late_in_a_million": 1}
    found = [point.harmed_per_day for point in points(given)]
    assert found == sorted(found, reverse=True) and found[0] > 0 and found[29:] == [0.0] * 31
    for name, value in (("delay_s", 50), ("window", 131072), ("rate_per_s", 400), ("late_in_a_million", 2)):
        assert points({**given, name: value})[9].harmed_per_day > found[9]
    assert (often(0), often(2.5), often(1 / 365.25 / 10)) == ("never", "2.5 a day", "1 in 10 years")
    assert "<svg" in visitor.get("/how-low/curve?delay_s=50").text
    for bad in ("delay_s=x", "window=2"):
        answer = visitor.get(f"/how-low/curve?{bad}")
        assert answer.status_code == 400 and answer.text.startswith("<p class='wrong'") and "range" in answer.text


def test_the_plan_follows_the_sliders_and_shows_each_hazard(site, visitor):
    """What `twlab plan` says; each hazard has a button that runs its scenario."""
    assert "does not suffice" in visitor.get("/proxy/plan?rate_per_s=900").text
    text = visitor.get("/proxy/plan?rate_per_s=50&timestamps=off").text
    assert "suffices" in text and "/scenario/assassination/run" in text
    seen = visitor.get("/proxy/plan?rate_per_s=50&symptom=134+s").text
    assert "renewed by each SYN" in seen and "What is seen" not in text
    assert "No cause is known" in visitor.get("/proxy/plan?rate_per_s=50&symptom=frobnicate").text
    wrong = visitor.get("/proxy/plan?rate_per_s=-1")
    assert wrong.status_code == 400 and "out of range" in wrong.text and "<header" not in wrong.text
    for end in ("low", "high"):
        ends = "&".join(f"{slider.name}={getattr(slider, end)}" for slider in SLIDERS if "port" not in slider.name)
        assert visitor.get(f"/proxy/plan?{ends}").status_code == 200
    assert "the first is above the last" in visitor.get("/proxy/plan?port_low=60000&port_high=50000").text


def test_a_pasted_text_is_diagnosed(visitor):
    """The answer, its evidence, and an experiment; nothing of the text is markup."""
    text = (ROOT / "docs" / "examples" / "diagnose" / "ports-full.txt").read_text()
    page = visitor.post("/proxy/diagnose", text=text + "</textarea><script>alert(1)</script>").text
    assert "It is TIME_WAIT" in page and "/scenario/port-exhaustion/run" in page and "<script>alert" not in page
    assert visitor.post("/proxy/diagnose", text="hello").status_code == 400


SOCKET = "TIME-WAIT 0      0      192.168.100.101:{}    192.168.200.202:8080 timer:(timewait,{}sec,0) ino:0 sk:{:x}"


def test_a_full_range_of_ports_is_diagnosed_whole(visitor):
    """As many sockets as Linux has ports, in one text; the field takes all of it."""
    rows = [SOCKET.format(port, port % 60, 0xABCDEF00 + port) for port in range(32768, 61000)]
    text = "\r\n".join(
        ["==> ss -tanoeip <==", "State Recv-Q Send-Q Local Address:Port Peer Address:Port Process", *rows]
    )
    page = visitor.post("/proxy/diagnose", text=text).text
    assert "It is TIME_WAIT: 28,232 of the 28,232 ports" in page and rows[-1] in page
    assert '<textarea id="text" name="text" spellcheck' in page


def test_texts_are_diagnosed_one_at_a_time_while_the_server_answers(site):
    """It takes seconds: they are not the server's own. Of those that wait there is a bound."""
    visitor, application = Visitor(site[1]), site[1]
    token = visitor.token("/proxy")
    cookie = visitor.client.cookies["twlab"]
    body = urlencode({"token": token, "text": "x\n" * 1000})

    async def play():
        def asked(path, **more):
            transport = httpx2.ASGITransport(application)
            client = httpx2.AsyncClient(transport=transport, base_url=HOME, headers={"cookie": f"twlab={cookie}"})
            return client.request("POST" if more else "GET", path, timeout=60, **more)

        kind = {"content-type": "application/x-www-form-urlencoded"}
        posts = [
            asyncio.create_task(asked("/proxy/diagnose", content=body, headers={**kind, "cookie": f"twlab={cookie}"}))
            for _ in range(9)
        ]
        await asyncio.sleep(0.1)
        page = await asked("/")
        first = sum(post.done() for post in posts)
        return page.status_code, first, sorted([(await post).status_code for post in posts])

    assert asyncio.run(play()) == (200, 1, [400] * 8 + [503])


def test_answers_are_compared_as_a_person_would():
    """Numbers to one per cent, texts without case, nothing as none."""
    compared = questions.compare({"foreign_bytes": 403, "errors": "None", "reopened": True, "x": 1}, OBSERVED)
    assert [row.right for row in compared] == [True, True, True, False]
    assert not questions.compare({"reopened": 1}, OBSERVED)[0].right


@pytest.mark.parametrize(
    ("kind", "mine", "seen"),
    [
        *(("number", mine, seen) for mine, seen in ((1000, 1003.2), (1000, 1030), (0.5, 0.5003), (0, 0), (0, 0.1))),
        *(("text", mine, seen) for mine in ("none", "Nothing", "no error", "RST") for seen in ("", "none", "rst")),
        *(("truth", mine, seen) for mine in (True, False) for seen in (True, False)),
    ],
)
def test_a_class_is_graded_as_its_sheet_says(tmp_path, kind, mine, seen):
    """`twlab grade` gives the point where the page and the CSV say right, and nowhere else."""
    fact = {"number": "foreign_bytes", "text": "refused_by", "truth": "reopened"}[kind]
    asks, found = [questions.Question(fact, kind)], Class("BCDFG", "t", ASKED, "k", "treatment", "run")
    packed = class_sheets.for_grader(found, asks, [Student("s", "ada", {fact: mine})])
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path)
    [question] = load_assignment(tmp_path / "assignment.toml").questions
    [handed_in] = read_submissions(tmp_path / "submissions", [])
    graded = mark(question, handed_in, {}, {"treatment": {"observed": {fact: seen}}})
    assert graded.points == questions.compare({fact: mine}, {fact: seen})[0].right


def test_the_store_forgets_the_oldest(tmp_path, monkeypatch):
    """It has a bound; what it kept survives a restart."""
    monkeypatch.setattr("twlab.web.store._MOST_ANSWERS", 3)
    site, _ = make_site(tmp_path)
    for number in range(6):
        monkeypatch.setattr("twlab.loop.wall_s", lambda number=number: 1000.0 + number)
        keep(site, f"{number:020}")
    site.store.close()
    again, _ = make_site(tmp_path)
    assert [bool(again.store.answer(f"{number:020}")) for number in range(6)] == [False] * 3 + [True] * 3
