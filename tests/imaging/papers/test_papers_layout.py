"""The layout of the papers is readable: references are short, and values are next to their statements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from reportlab.platypus import LongTable

from imaging.papers.diagram import TOP, draw
from imaging.papers.flows import Flow
from imaging.papers.pdf import Content, number_list, section_of
from trust.fact import Fact
from trust.papers import PaperSection, Statement

WIDTH = 499
FACT = Fact(key="values", values=tuple(f"value {number}" for number in range(60)), evidence=("file:/etc/a",))


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([3, 3], "E3"),
        ([7, 1, 2], "E1 to E2, E7"),
        ([11, 12, 13, 1], "E1, E11 to E13"),
    ],
)
def test_numbers_of_evidence_are_sorted_unique_and_joined_to_ranges(numbers: list[int], text: str) -> None:
    assert number_list(numbers) == text


def rows_of(*statements: Statement) -> Any:
    content = Content({FACT.key: FACT}, {}, {})
    *_, table = section_of(PaperSection(title="Section", statement=list(statements)), content)
    assert isinstance(table, LongTable)
    return table


def parts(table: Any, height: int) -> Iterator[Any]:
    """Yield the table's parts on pages of this height."""
    while split := table.split(WIDTH, height):
        part, *rest = split
        yield part
        if not rest:
            return
        (table,) = rest


@pytest.mark.parametrize("height", range(300, 420, 8))
def test_a_statement_is_on_the_page_on_which_its_values_begin(height: int) -> None:
    shown = [Statement(id=f"A-{number}", text="These are:", fact=FACT.key, shows=True) for number in range(8)]
    table = rows_of(*shown)
    table.wrap(WIDTH, 10_000)
    pages = list(parts(table, height))
    assert len(pages) > 3
    for page in pages:
        number, *_ = page._cellvalues[-1]  # noqa: SLF001
        assert number == "", "a page ends with a statement without its values"


def test_an_answer_that_is_not_shown_has_no_evidence() -> None:
    undecided = Statement(id="A-1", text="Does it?", fact=FACT.key, then="not shown")
    *_, evidence = rows_of(undecided)._cellvalues[-1]  # noqa: SLF001
    assert evidence.text == "none"


def test_every_arrow_of_the_diagram_meets_the_box() -> None:
    flows = [
        Flow(f"Port {number}", "Box", "reports", "TLS", ("tcp/443",), ("instruments", "box"))
        for number in range(4)
    ]
    drawing: Any = draw(flows)
    (box,) = (one for one in drawing.contents if getattr(one, "fillColor", None) is not None
              and getattr(one, "height", 0) > 100 and not getattr(one, "strokeDashArray", None))  # fmt: skip
    arrows = [one.points[1] for one in drawing.contents if hasattr(one, "points")]
    assert len(arrows) == 4
    assert all(box.y <= y <= box.y + box.height for y in arrows)
    assert box.y + box.height == drawing.height - TOP
