"""The HTML page is complete and well-formed, and loads nothing from the network."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import msgspec
import pytest
from plotly.offline import get_plotlyjs

from sim.report import page, write_report
from sim.verdict.result import BacklogSeries, FaultOccurrence, Result, Series
from tests.support.sim.report_examples import HOUR, MINUTES, bare, failing, hostile, passing

VOID = {"meta", "br", "img", "hr", "link", "input"}


class Document(HTMLParser):
    """The elements and the text of a page. Unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.visible_text = ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value is not None]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.visible_text += " "

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.visible_text += data

    def tables(self) -> int:
        return [tag for tag, _ in self.elements].count("table")


def own_text(text: str) -> str:
    """Return the page without the embedded library."""
    assert get_plotlyjs() in text
    return text.replace(get_plotlyjs(), "")


@pytest.mark.parametrize("make", [passing, failing, bare, hostile])
def test_the_page_is_well_formed(make: Callable[[], Result]) -> None:
    document = Document(page.render(make()))
    assert len(document.ids) == len(set(document.ids))
    assert document.elements[0] == ("html", {"lang": "en"})


@pytest.mark.parametrize("make", [passing, failing, bare])
def test_the_page_loads_nothing_from_the_network(make: Callable[[], Result]) -> None:
    text = page.render(make())
    document = Document(text)
    for tag, attributes in document.elements:
        assert tag not in {"link", "img", "iframe", "object", "base", "form"}
        assert not {"src", "href", "action", "srcset"} & set(attributes)
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp|import\(", own_text(text))
    policy = next(attributes["content"] for _, attributes in document.elements if "http-equiv" in attributes)
    assert policy is not None and policy.startswith("default-src 'none';")
    assert "http" not in policy and "connect-src" not in policy


def test_markup_in_a_lab_file_is_shown_as_text() -> None:
    result = hostile()
    document = Document(page.render(result))
    assert len(document.scripts) == 3  # figures, plotly.js and the page's own script
    assert all(tag != "img" for tag, _ in document.elements)
    assert not any(name.startswith("on") for _, attributes in document.elements for name in attributes)
    assert document.visible_text.count(result.lab) >= 8
    label = next(
        trace for trace in json.loads(document.scripts[0])["timeline"]["data"] if trace["mode"] == "text"
    )
    assert "<" not in label["text"][0]


def test_the_embedded_library_does_not_close_its_script_element() -> None:
    assert "</script" not in get_plotlyjs().lower()


def test_a_passing_run_shows_its_figures() -> None:
    visible_text = " ".join(Document(page.render(passing())).visible_text.split())
    for text in (
        "PASS",
        "All 4 expectations hold.",
        "100 % of the acknowledged",
        "backlog_drained_within",
        "≤ 10 min 1 min 47 s ✓ holds",
        "CA-2041 chemistry-analyzer",
        "02:00:00 link-down uplink 3 h",
        "08:00:00 power-cut box –",
        passing().trace_sha256,
        "4 of 88",
    ):
        assert text in visible_text
    assert "What failed" not in visible_text


def test_a_failing_run_shows_its_failures_faults_and_replay_command() -> None:
    visible_text = " ".join(Document(page.render(failing())).visible_text.split())
    for text in (
        "FAIL",
        "2 of 4 expectations do not hold.",
        "The preceding fault: power-cut of box at 08:00:00.",
        "CA-2041 1 1437 status 07:59:00 07:59:00 in a torn sector",
        "gap record of 08:00:42: 5 records, corrupt, sequence 5203–5206, 5209.",
        "99.9 % of the acknowledged",
    ):
        assert text in visible_text
    assert visible_text.count(failing().replay) == 2


def test_charts_are_shown_only_if_there_is_data() -> None:
    assert {"timeline", "latency", "bytes", "figures"} == set(Document(page.render(passing())).ids)
    without_data = Document(page.render(bare()))
    assert without_data.ids == ["figures"]
    assert json.loads(without_data.scripts[0]) == {}
    assert without_data.tables() == 2  # expectations and the uplink's total


def test_the_rows_of_the_timeline_share_an_axis_and_use_the_colors_of_the_page() -> None:
    text = page.render(passing())
    figures = json.loads(Document(text).scripts[0])
    layout = figures["timeline"]["layout"]
    assert [key for key in layout if key.startswith("xaxis")] == ["xaxis"]
    assert len([key for key in layout if key.startswith("yaxis")]) == 4
    used = set(re.findall(r"--[a-z-]+", json.dumps(figures)))
    defined = set(re.findall(r"(--[a-z-]+): ", (resources.files("sim.report") / "page.css").read_text()))
    assert used <= defined


def test_a_minute_without_traffic_is_drawn_at_zero() -> None:
    figures = json.loads(Document(page.render(passing())).scripts[0])
    up = next(trace for trace in figures["timeline"]["data"] if trace.get("name") == "up")
    axis = figures["timeline"]["layout"]["yaxis2"]
    assert up["text"][150] == "up 0 bit/s, busy 0 %"  # minute 150 is in the outage
    assert up["y"][150] == axis["tickvals"][0] == 10 ** axis["range"][0]
    assert axis["ticktext"][0] == "0"
    assert min(up["y"][:100]) > up["y"][150]


@pytest.mark.parametrize("bins", [0, 3])
def test_a_run_that_sent_nothing_still_has_a_timeline(bins: int) -> None:
    none = (0,) * bins
    series = Series(
        bin_ns=10**9,
        bytes_up=none,
        bytes_down=none,
        busy=(0.0,) * bins,
        backlog=BacklogSeries(alert=none, audit=none, routine=none),
    )
    text = page.render(msgspec.structs.replace(passing(), series=series, sim_seconds=3.0))
    timeline = json.loads(Document(text).scripts[0])["timeline"]
    assert [len(trace["y"]) for trace in timeline["data"] if trace.get("name") == "up"] == [bins]


def test_the_axis_of_waiting_records_has_whole_numbers() -> None:
    result = passing()
    assert result.series is not None
    none, one = (0,) * MINUTES, (0, 1) * (MINUTES // 2)
    series = msgspec.structs.replace(
        result.series, backlog=BacklogSeries(alert=one, audit=none, routine=none)
    )
    text = page.render(msgspec.structs.replace(result, series=series))
    layout = json.loads(Document(text).scripts[0])["timeline"]["layout"]
    assert layout["yaxis4"]["dtick"] == 1


def test_the_time_axis_names_days_if_there_is_more_than_one() -> None:
    def tick_formats(days: int) -> str:
        text = page.render(msgspec.structs.replace(passing(), sim_seconds=86_400.0 * days))
        figure = json.loads(Document(text).scripts[0])["timeline"]
        return str(figure["layout"]["xaxis"]["tickformatstops"][2]["value"])

    assert tick_formats(1) == "%H:%M"
    assert tick_formats(7) == "%H:%M\nday %-j"


def test_many_faults_are_drawn_without_labels() -> None:
    faults = tuple(
        FaultOccurrence(kind="link-flap", at_ns=i * HOUR // 60, target="uplink") for i in range(500)
    )
    text = page.render(msgspec.structs.replace(passing(), faults=faults))
    timeline = json.loads(Document(text).scripts[0])["timeline"]
    assert not [trace for trace in timeline["data"] if trace.get("mode") == "text"]
    assert len(timeline["layout"]["shapes"]) == 101  # the first hundred, and the link's rate


def test_simultaneous_faults_share_a_label_and_long_targets_fit_the_margin() -> None:
    faults = tuple(
        FaultOccurrence(kind=kind, at_ns=HOUR, target="instrument:10") for kind in ("hoards", "drips")
    )
    text = page.render(msgspec.structs.replace(passing(), faults=faults))
    timeline = json.loads(Document(text).scripts[0])["timeline"]
    [label] = [trace["text"] for trace in timeline["data"] if trace.get("mode") == "text"]
    assert label == ["   hoards; drips"]
    assert timeline["layout"]["margin"]["l"] >= 7 * len("instrument:10")


def test_a_report_is_written_as_three_files_in_a_new_folder(tmp_path: Path) -> None:
    paths = write_report(failing(), tmp_path / "lab" / "01")
    assert sorted(tmp_path.joinpath("lab", "01").iterdir()) == sorted(paths)
    assert [path.name for path in paths] == ["report.html", "junit.xml", "result.json"]
    assert json.loads(paths.document.read_text("utf-8"))["series"]["bin_ns"] == 60 * 10**9
    assert paths.page.read_text("utf-8") == page.render(failing())
    assert write_report(passing(), tmp_path / "lab" / "01") == paths
    assert '"verdict": "pass"' in paths.document.read_text("utf-8")
