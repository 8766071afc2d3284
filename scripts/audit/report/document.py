"""A report as a list of blocks, which is written as HTML and as PDF alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.audit.report.charts import Drawing


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; `soft` is for notes that may be read later."""

    text: str
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with a value each, such as the figures at the top."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Terms:
    """Words that the report uses, each with what it means here."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text.

    `numbers` are the columns that are aligned on the right, and `links` names the file that a
    cell of the first column links to.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    links: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and the sentence that says the same for who cannot see it."""

    drawing: Drawing
    text: str


Block = Heading | Paragraph | Facts | Terms | Table | Chart


@dataclass(frozen=True, slots=True)
class Document:
    """A report: `watermark` is drawn over each page, unless it is empty."""

    lang: str
    title: str
    subtitle: Sequence[str]
    blocks: Sequence[Block]
    watermark: str = ""
