"""PDF by WeasyPrint. The only module that imports it: it needs the library Pango of the system."""

from __future__ import annotations

import threading

from karen_learner.errors import InvalidInput

PANGO = "apt-get install libpango-1.0-0 libpangoft2-1.0-0, or the packages of your system"
_one_at_a_time = threading.Lock()


def to_pdf(html: str) -> bytes:
    """The PDF of a page. Nothing outside the page is loaded. Blocking. Raises InvalidInput (`check_pdf`)."""
    check_pdf()
    from weasyprint import HTML

    with _one_at_a_time:
        return bytes(HTML(string=html, url_fetcher=_refuse).write_pdf())


def check_pdf() -> None:
    """Raises InvalidInput without WeasyPrint or without Pango."""
    problem = pdf_problem()
    if problem is not None:
        raise InvalidInput(f"a PDF needs {problem}")


def pdf_problem() -> str | None:
    """The missing part for PDF, with the remedy; None if all is there."""
    try:
        import weasyprint  # noqa: F401
    except ImportError:
        return "WeasyPrint: pip install 'karen-learner[pdf]'"
    except OSError:  # it is installed, and does not find Pango
        return f"the library Pango: {PANGO}"
    return None


def _refuse(url: str, *_: object, **__: object) -> dict[str, object]:
    raise ValueError(f"reports load nothing: {url[:60]!r}")
