"""Finds active content in a PDF, and copies one page out of it.

A page is copied as it is: the streams of its pictures and of its content stay byte for byte the
same. The copy has one page with its size, its turn, its content and the resources that the content
names, and nothing else of the file: no outline, no annotations, no metadata. The same page always
gives the same bytes, whatever else is in the file.
"""

import io
from collections.abc import Iterator

import pikepdf

_ACTIONS = ("/JavaScript", "/Launch", "/ImportData", "/Rendition", "/RichMediaExecute")
_PARTS = ("/JS", "/EF", "/EmbeddedFiles", "/RichMediaContent", "/XFA")
_ANNOTATIONS = ("/FileAttachment", "/RichMedia", "/Movie", "/Sound", "/Screen", "/3D")
_KEPT = (
    *("/Type", "/MediaBox", "/CropBox", "/BleedBox", "/TrimBox", "/ArtBox", "/Rotate"),
    *("/UserUnit", "/Resources", "/Contents", "/Group"),
)
_MAX_DEPTH = 64


class Encrypted(Exception):
    """The file cannot be opened without a password."""


class Unreadable(ValueError):
    """The PDF is broken, encrypted or nested too deeply."""


def has_active_content(data: bytes) -> bool:
    """Return whether a PDF has a script, starts a program, or has a file attached, anywhere.

    A scanner adds none of these. Raises Encrypted or Unreadable.
    """
    try:
        with pikepdf.open(io.BytesIO(data)) as document:
            found = (document.trailer, *document.objects)
            return any(_is_active(part) for item in found for part in _dictionaries(item, 0))
    except pikepdf.PasswordError:
        raise Encrypted from None
    except (pikepdf.PdfError, RuntimeError, ValueError) as error:
        raise Unreadable(str(error)) from None


def extract(data: bytes, number: int) -> bytes:
    """Return a PDF with one page of this one, counted from 0; raises Unreadable."""
    return Pages(data).extract(number)


class Pages:
    """The pages of a PDF, which is opened once: a broken one takes long to open."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._document: pikepdf.Pdf | None = None

    def extract(self, number: int) -> bytes:
        """Return a PDF with one page of this one, counted from 0; raises Unreadable."""
        try:
            if self._document is None:
                self._document = pikepdf.open(io.BytesIO(self._data))
            return _alone(self._document, number)
        except (pikepdf.PdfError, pikepdf.PasswordError, RuntimeError, ValueError) as error:
            raise Unreadable(str(error)) from None


def _alone(document: pikepdf.Pdf, number: int) -> bytes:
    with pikepdf.new() as alone:
        alone.pages.append(document.pages[number])
        page = alone.pages[0]
        for key in {str(key) for key in page.obj} - {*_KEPT, "/Parent"}:
            del page.obj[key]
        alone.remove_unreferenced_resources()
        file = io.BytesIO()
        alone.save(
            file,
            deterministic_id=True,
            compress_streams=False,
            stream_decode_level=pikepdf.StreamDecodeLevel.none,
            object_stream_mode=pikepdf.ObjectStreamMode.disable,
            fix_metadata_version=False,
            min_version="1.7",
        )
        return file.getvalue()


def _dictionaries(item: pikepdf.Object, depth: int) -> Iterator[pikepdf.Object]:
    """Yield an object and those inside it; numbered (indirect) objects are listed elsewhere."""
    if depth > _MAX_DEPTH:
        raise Unreadable("an object is nested too deeply")
    if isinstance(item, pikepdf.Array):
        for part in item.as_list():
            if isinstance(part, pikepdf.Object) and not part.is_indirect:
                yield from _dictionaries(part, depth + 1)
    elif isinstance(item, (pikepdf.Dictionary, pikepdf.Stream)):
        yield item
        parts = item.stream_dict if isinstance(item, pikepdf.Stream) else item
        for part in parts.as_dict().values():
            if isinstance(part, pikepdf.Object) and not part.is_indirect:
                yield from _dictionaries(part, depth + 1)


def _is_active(item: pikepdf.Object) -> bool:
    keys = item.keys()
    return (
        any(key in keys for key in _PARTS)
        or str(item.get("/S")) in _ACTIONS
        or str(item.get("/Subtype")) in _ANNOTATIONS
    )
