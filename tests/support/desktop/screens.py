"""Synthetic screens of a chemistry analyzer, and a script of eight steps that a service engineer would take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from wire.desktop.picture import Area, Picture

WIDTH, HEIGHT = 1024, 768
TABS = ("Home", "Samples", "Reagents", "QC", "Calibration", "Maintenance", "System")
COLUMNS = (70, 190, 90, 110, 110, 120)
ASSAYS = (
    "Glucose",
    "Creatinine",
    "ALT",
    "AST",
    "Urea",
    "CRP",
    "Albumin",
    "Total protein",
    "Sodium",
    "Potassium",
    "Chloride",
    "Calcium",
)
CELL = Area(282, 243, 78, 20)
"""A value in the table."""
DIALOG = Area(300, 240, 425, 261)
INK, WHITE = (20, 20, 30), (255, 255, 255)
BAND_ROWS = 26

Font = Callable[[int], ImageFont.FreeTypeFont]


def bundled_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that comes with Pillow, so that screens are equal on all machines."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


class Step(NamedTuple):
    """A step of the script, and the areas that the application draws in it."""

    name: str
    screen: Image.Image
    drawn: Sequence[Area]


class Analyzer:
    """Draws the screens of one analyzer."""

    def __init__(self, font: Font = bundled_font, seed: int = 0) -> None:
        self._small, self._text, self._button, self._title = map(font, (11, 13, 16, 22))
        self._seed = seed

    def tab(self, number: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        screen = Image.new("RGB", (WIDTH, HEIGHT), (212, 220, 228))
        draw = ImageDraw.Draw(screen)
        for y in range(56):
            draw.line((0, y, WIDTH, y), fill=(10 + y, 60 + y, 110 + y))
        draw.text((14, 12), "Chemistry Analyzer  AU-Sim 5800", font=self._title, fill="white")
        draw.text((850, 20), "Operator: lab3", font=self._text, fill="white")
        for index, name in enumerate(TABS):
            fill = WHITE if index == number else (170, 185, 200)
            box = (10 + index * 140, 62, 142 + index * 140, 96)
            draw.rounded_rectangle(box, 5, fill=fill, outline=(90, 100, 110))
            draw.text((24 + index * 140, 70), name, font=self._button, fill=(20, 30, 60))
        draw.rectangle((0, 738, WIDTH, HEIGHT), fill=(60, 70, 80))
        status = "STANDBY   Reagent cooling 5.2 C   Incubator 37.0 C   Waste 41 %"
        draw.text((10, 744), status, font=self._text, fill="white")
        return screen, draw

    def table(self, draw: ImageDraw.ImageDraw, seed: int, first: int = 0) -> None:
        random = Random(seed + 1000 * self._seed)
        flags = ["OK", "OK", "OK", "Pending", "Flag H", "Rerun"]
        rows = [
            [
                str(1000 + index),
                random.choice(ASSAYS),
                f"{random.uniform(0.5, 240):.1f}",
                "mmol/L",
                f"2026-11-{random.randint(1, 28):02d}",
                random.choice(flags),
            ]
            for index in range(80)
        ]
        for index, row in enumerate(rows[first : first + 24]):
            y = 110 + index * BAND_ROWS
            fill = WHITE if index % 2 else (238, 243, 248)
            draw.rectangle((14, y, 704, y + 25), fill=fill, outline=(190, 198, 206))
            x = 22
            for width, text in zip(COLUMNS, row, strict=True):
                colour = (180, 20, 20) if text.startswith("Flag") else INK
                draw.text((x, y + 5), text, font=self._text, fill=colour)
                x += width

    def side(self, draw: ImageDraw.ImageDraw, levels: int) -> None:
        draw.rectangle((716, 110, 1010, 730), fill=(245, 247, 250), outline=(150, 160, 170))
        for index in range(10):
            y = 124 + index * 58
            draw.text((730, y), f"Reagent {index + 1:02d}", font=self._text, fill=INK)
            draw.rectangle((820, y, 990, y + 18), outline=(90, 90, 90), fill="white")
            level = (levels * (index + 3)) % 97
            fill = (60, 160, 80) if level > 20 else (210, 60, 40)
            draw.rectangle((821, y + 1, 821 + int(1.68 * level), y + 17), fill=fill)
            draw.text((940, y + 22), f"{level} %", font=self._small, fill=(60, 60, 60))

    def cell(self, draw: ImageDraw.ImageDraw, text: str) -> None:
        draw.rectangle((CELL.x, CELL.y, CELL.right - 1, CELL.bottom - 1), fill=WHITE)
        draw.text((CELL.x, CELL.y + 2), text, font=self._text, fill=INK)

    def dialog(self, draw: ImageDraw.ImageDraw) -> None:
        draw.rounded_rectangle((300, 240, 724, 500), 8, fill=(250, 250, 250), outline=(40, 60, 90), width=3)
        draw.rectangle((303, 243, 721, 276), fill=(30, 90, 150))
        draw.text((316, 249), "Reagent 04 low", font=self._button, fill="white")
        lines = (
            "Remaining tests: 12. Load a new cartridge before",
            "starting the next batch. The analyzer will pause",
            "when the cartridge is empty.",
            "Error code 2043-11  (reagent probe, position 4)",
        )
        for index, line in enumerate(lines):
            draw.text((318, 296 + index * 28), line, font=self._text, fill=INK)
        for index, name in enumerate(("OK", "Details", "Print")):
            box = (330 + index * 130, 440, 440 + index * 130, 480)
            draw.rounded_rectangle(box, 5, fill=(225, 230, 236), outline=(90, 100, 110))
            draw.text((360 + index * 130, 450), name, font=self._button, fill=(20, 30, 60))

    def plots(self, draw: ImageDraw.ImageDraw, seed: int) -> None:
        """Four scatter plots of 1,900 dots."""
        random = Random(seed + 1000 * self._seed)
        clouds = [
            (90, 200, (200, 40, 40), 900),
            (180, 120, (40, 90, 200), 700),
            (240, 60, (40, 160, 60), 300),
        ]
        for left, top in ((20, 120), (370, 120), (20, 430), (370, 430)):
            draw.rectangle((left, top, left + 330, top + 290), fill="white", outline=(120, 120, 120))
            for x_mean, y_mean, colour, dots in clouds:
                for _ in range(dots):
                    x = left + x_mean + random.gauss(0, 22)
                    y = top + y_mean + random.gauss(0, 18)
                    draw.point((x, y), fill=colour)
                    draw.point((x + 1, y), fill=colour)

    def script(self) -> Iterator[Step]:
        """Yield the eight steps."""
        whole = [Area(0, 0, WIDTH, HEIGHT)]
        first, draw = self.tab(1)
        self.table(draw, 1)
        self.side(draw, 7)
        yield Step("first picture", first, whole)
        value = first.copy()
        self.cell(ImageDraw.Draw(value), "97.3")
        yield Step("one value changes", value, [CELL])
        dialog = value.copy()
        self.dialog(ImageDraw.Draw(dialog))
        yield Step("dialog opens", dialog, [DIALOG])
        yield Step("dialog closes", value, [DIALOG])
        scrolled, draw = self.tab(1)
        self.table(draw, 1, first=3)
        self.side(draw, 7)
        yield Step("table scrolls 3 rows", scrolled, [Area(14, 110, 691, 24 * BAND_ROWS)])
        other, draw = self.tab(3)
        self.table(draw, 9)
        self.side(draw, 31)
        yield Step("another tab", other, whole)
        plots, draw = self.tab(4)
        self.plots(draw, 3)
        self.side(draw, 31)
        yield Step("scatter plots", plots, whole)
        yield Step("tab shown before", other, whole)


def to_picture(screen: Image.Image) -> Picture:
    """Return the screen as a picture in memory."""
    picture = Picture(*screen.size)
    picture.data[:] = to_bytes(screen)
    return picture


def to_bytes(screen: Image.Image) -> bytes:
    """Return the screen's pixels as in a picture in memory."""
    data = bytearray(screen.tobytes("raw", "BGRX"))
    data[3::4] = bytes(len(data) // 4)
    return bytes(data)
