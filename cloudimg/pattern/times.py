"""Times in URLs: the regex of a strftime format, and times read and written by it."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Mapping

from cloudimg.pattern.directives import DIRECTIVE, directives_of, format_regex, read_texts
from cloudimg.pattern.regex import Fail

# English whatever the locale is: names of files do not change with the reader's language.
_MONTHS, _DAYS = (
    names.split()
    for names in (
        "January February March April May June July August September October November December",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    )
)
_TIMES = {
    **dict.fromkeys("mdHMSIy", r"\d{2}"),
    **{"Y": r"\d{4}", "j": r"\d{3}", "f": r"\d{1,6}", "z": r"[+-]\d{4}", "p": "AM|PM", "%": "%"},
    **{"B": "|".join(_MONTHS), "b": "|".join(name[:3] for name in _MONTHS)},
    **{"A": "|".join(_DAYS), "a": "|".join(name[:3] for name in _DAYS)},
}


def time_regex(spec: str, fail: Fail) -> str:
    """Return the regex of a strftime format."""
    unknown = [letter for letter in directives_of(spec) if letter not in _TIMES]
    if unknown:
        known = " ".join(f"%{letter}" for letter in _TIMES)
        raise fail(f"%{unknown[0]} is not supported", f"write some of {known}")
    return format_regex(spec, _regex_of, fail)


def _regex_of(letter: str, _is_beside: bool) -> str:
    return _TIMES[letter]


@functools.lru_cache(maxsize=65536)  # many files share few times
def read_time(text: str, spec: str) -> datetime.datetime:
    """Return the time that a text stands for; ValueError or OverflowError if it does not exist."""
    texts = read_texts(text, spec, _regex_of)
    time = _time_of(texts)
    # A wrong weekday, day 366 of a common year, two years that differ.
    if not texts.keys() <= set("YmdHMSf") and write_time(time, spec) != DIRECTIVE.sub(
        lambda found: texts[found[1]], spec
    ):
        raise ValueError(text)
    return time


def _time_of(texts: Mapping[str, str]) -> datetime.datetime:
    """Return the time that the texts of directives give together."""
    number = {letter: int(part) for letter, part in texts.items() if part.isdecimal()}
    if "y" in number:
        number.setdefault("Y", number["y"] + (1900 if number["y"] > 68 else 2000))
    if "I" in number:
        number.setdefault("H", number["I"] % 12 + 12 * (texts.get("p") == "PM"))
    if month := texts.get("b", texts.get("B")):
        number.setdefault("m", 1 + [name[:3] for name in _MONTHS].index(month[:3]))
    year, month_number, day = (
        number.get(letter, low) for letter, low in (("Y", 1900), ("m", 1), ("d", 1))
    )
    hour, minute, second, microsecond = (number.get(letter, 0) for letter in "HMSf")
    time = datetime.datetime(year, month_number, day, hour, minute, second, microsecond)
    if "j" in number and "m" not in number:
        time += datetime.timedelta(number["j"] - 1)
    if "z" in texts:
        time = time.replace(tzinfo=datetime.datetime.strptime(texts["z"], "%z").tzinfo)
    return time


def write_time(time: datetime.datetime, spec: str) -> str:
    """Return the text that `read_time` reads as that time."""

    def part(found: re.Match[str]) -> str:
        match found[1]:
            case "Y":
                return f"{time.year:04}"  # strftime does not pad it everywhere
            case "p":
                return "AM" if time.hour < 12 else "PM"
            case "B" | "b" as letter:
                return _MONTHS[time.month - 1][: 3 if letter == "b" else None]
            case "A" | "a" as letter:
                return _DAYS[time.weekday()][: 3 if letter == "a" else None]
        return time.strftime(found[0])

    return DIRECTIVE.sub(part, spec)
