"""Writes how long something takes as people say it, in Turkish."""


def age(seconds: float | None) -> str:
    """Write a time: 40 sn, 12 dk, 3 sa 5 dk; a dash if there is none."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} sn"
    minutes = round(seconds / 60)
    return f"{minutes} dk" if minutes < 120 else f"{minutes // 60} sa {minutes % 60} dk"
