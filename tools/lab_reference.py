"""Generates the tables of docs/reference/lab-file.md from the Structs that read lab files (`make golden`).

The meaning of a key is the docstring below its field; form, limits and default come from the field itself.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from msgspec.structs import FieldInfo, fields

from settings.board import board_names, load_board
from settings.form import Form
from settings.toml import describe_field
from sim.faults import fault_kinds
from sim.instruments import model_names
from sim.instruments.host_interface.dialects import OPTIONS
from sim.lab import labfile
from sim.lab.sessions import LabSession
from sim.proxies.kind import proxy_kinds

PAGE: Final = Path("docs/reference/lab-file.md")
BEGIN: Final = "<!-- written by tools/lab_reference.py, from here to the end -->\n"
TABLES: Final[dict[str, type[msgspec.Struct]]] = {
    "[lab]": labfile.About,
    "[box]": labfile.LabBox,
    "[uplink]": labfile.LabUplink,
    "[uplink] proxy": labfile.LabProxy,
    "[[instrument]]": labfile.LabInstrument,
    "[[event]]": labfile.FaultEvent,
    "[[command]]": labfile.Order,
    "[[session]]": LabSession,
    "[expect]": labfile.Expect,
    "[[expect.alerts]]": labfile.ExpectedAlert,
}


def render(page: str) -> str:
    """Return the page with regenerated tables."""
    head = page.partition(BEGIN)[0]
    return (
        head
        + BEGIN
        + "".join(_table(title, kind) for title, kind in TABLES.items())
        + _dialects()
        + _proxies()
        + _faults()
        + _names()
    )


def _table(title: str, kind: type[msgspec.Struct]) -> str:
    meanings = _meanings(kind)
    rows = [
        f"| `{info.name}` | {_rule(info)} | {_default(info)} | {meanings[info.name]} |\n"
        for info in fields(kind)
    ]
    head = f"\n## `{title}`\n\n{inspect.getdoc(kind)}\n\n| key | value | default | meaning |\n|---|---|---|---|\n"
    return head + "".join(rows)


def _meanings(kind: type[msgspec.Struct]) -> dict[str, str]:
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    meanings = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            assert isinstance(statement.target, ast.Name)
            meanings[statement.target.id] = " ".join(ast.literal_eval(following.value).split())
    return meanings


def _dialects() -> str:
    rows = [
        f"| `{option.name}` | {', '.join(option.speaks)} | {option.text} |\n" for option in OPTIONS.values()
    ]
    return "\n## Dialect options\n\n| option | standards | difference |\n|---|---|---|\n" + "".join(rows)


def _proxies() -> str:
    rows = []
    for name, kind in proxy_kinds().items():
        auths = ", ".join(f"`{auth}`" for auth in kind.auths)
        rows.append(f"| `{name}` | {auths} | {inspect.getdoc(kind)} |\n")
    return "\n## Proxy kinds\n\n| kind | `auth` | description |\n|---|---|---|\n" + "".join(rows)


def _faults() -> str:
    head = "\n## Faults\n\n| fault | targets | without `lasts` | keys | effect |\n|---|---|---|---|---|\n"
    rows = []
    for name, kind in fault_kinds().items():
        targets = ", ".join(f"`{target}`" for target in kind.targets)
        keys = "<br>".join(f"`{i.name}`: {_rule(i)}; {_default(i)}" for i in fields(kind))
        description = " ".join((inspect.getdoc(kind) or "").split())
        end = "ends at once" if kind.momentary else "lasts until the end"
        rows.append(f"| `{name}` | {targets} | {end} | {keys} | {description} |\n")
    return head + "".join(rows)


def _names() -> str:
    boards = "".join(f"| `{name}` | {load_board(name).summary} |\n" for name in board_names())
    models = "".join(f"- `{name}`\n" for name in model_names())
    return f"\n## Boards\n\n| board | description |\n|---|---|\n{boards}\n## Instrument models\n\n{models}"


def _rule(info: FieldInfo) -> str:
    return describe_field(info).replace("|", "\\|")


def _default(info: FieldInfo) -> str:
    if info.required:
        return "required"
    if info.default is None or info.default == "":
        return "none"
    return f"`{_as_written(info.type, info.default)}`"


def _as_written(kind: Any, value: Any) -> str:
    form = get_args(kind)[-1] if get_args(kind) else None
    if isinstance(form, Form):
        value = form.write(value)
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text("utf-8")), "utf-8")
